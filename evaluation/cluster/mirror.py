"""OUT's references and pictures as a folder of this machine: OUT itself, or, where it is in a bucket, a copy that is kept equal.

A picture is in the bucket before the next one is drawn, so that a machine that is lost takes nothing with it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.progress import say
from common.storage import Storage
from evaluation.features import Copied
from evaluation.methods import measure

COPIED = ("references/", "pictures/")


@contextmanager
def mirrored(out: str) -> Iterator[Mirror]:
    """The folder in a `with`; of a bucket's, what is not there yet is copied when the block ends, however it ends."""
    storage = Storage(out)
    if storage.is_local:
        yield Mirror(storage, Path(storage.path("")))
        return
    folder = Path(tempfile.mkdtemp(prefix="facemakeup-evaluation-"))
    mirror = Mirror(storage, folder)
    try:
        mirror.fetch()
        yield mirror
    finally:
        mirror.send()
        shutil.rmtree(folder, ignore_errors=True)


class Mirror:
    """`folder`: where references and pictures lie; `storage`: OUT."""

    def __init__(self, storage: Storage, folder: Path):
        self.storage, self.folder = storage, folder
        self._sent: dict[str, tuple[int, int]] = {}  # size and time of change of what is in both

    @property
    def copied(self) -> Copied | None:
        """How another node reads what lies in the folder; None where it is a folder of its own."""
        return None if self.storage.is_local else Copied(str(self.folder), self.storage)

    def fetch(self) -> None:
        """Copy what the bucket holds."""
        paths = [path for path in self.storage.files() if path.startswith(COPIED)]
        for path in paths:
            file = self.folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            self.storage.get_file(path, file)
            self._sent[path] = _version(file)
        if paths:
            say("evaluate", f"{len(paths):,} files copied from {self.storage.root}")

    def kept(self, file: Path) -> None:
        """Send a picture that was just kept, after the measure of its method's pictures."""
        if not self.storage.is_local:
            method = self.folder / "pictures" / file.relative_to(self.folder / "pictures").parts[0]
            self._send(method / measure.NAME)
            self._send(file)

    def send(self) -> None:
        """Send everything that changed."""
        if not self.storage.is_local:
            for place in COPIED:
                for file in sorted((self.folder / place).rglob("*")):
                    if file.is_file() and not file.name.endswith((".tmp", ".part")):
                        self._send(file)

    def _send(self, file: Path) -> None:
        path, version = file.relative_to(self.folder).as_posix(), _version(file)
        if self._sent.get(path) != version:
            self.storage.write_bytes(path, file.read_bytes())
            self._sent[path] = version


def _version(file: Path) -> tuple[int, int]:
    told = file.stat()
    return told.st_size, told.st_mtime_ns
