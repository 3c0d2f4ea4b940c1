"""The log of a run: JSON lines, TensorBoard and pictures, written by rank 0; in an object store, uploaded by it."""

from __future__ import annotations

import json
import logging
import math
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
from torch.utils.tensorboard import SummaryWriter

from common.paths import is_local, open_place

log = logging.getLogger(__name__)

UPLOAD_EVERY = 30.0  # seconds between two uploads to an object store
UPLOADED_AT_ONCE = ("started", "checkpoint", "diverged", "stopped")  # the kinds of row that may be the last one


class RunLog:
    """OUT/log.jsonl, OUT/tensorboard, OUT/pictures, OUT/run.html. A resumed run goes on in the same files.

    In an object store a file cannot grow: there rank 0 writes in a folder of its own, and what has changed is uploaded
    as whole files every 30 seconds, at each checkpoint and at the end. A killed run loses at most the lines since then.
    `folder`: where rank 0 writes, OUT itself or that folder; None on the other ranks.
    """

    def __init__(self, out: str, rank: int):
        self.folder: Path | None = None
        self._board: SummaryWriter | None = None
        self._uploader: _Uploader | None = None
        if rank:
            return
        fs, root = open_place(out)
        if is_local(fs):
            self.folder = Path(root)
            self.folder.mkdir(parents=True, exist_ok=True)
        else:
            # removed by `close`, or when the process ends by an error
            self._scratch = tempfile.TemporaryDirectory(prefix="facemakeup-log-", ignore_cleanup_errors=True)
            self.folder = Path(self._scratch.name)
            self._uploader = _Uploader(fs, root.rstrip("/"), self.folder)
            self._uploader.fetch("log.jsonl")
        self._board = SummaryWriter(str(self.folder / "tensorboard"))
        if self._uploader:
            self._uploader.start(self._board.flush)

    def write(self, kind: str, step: int, **values: Any) -> None:
        """A line `{"kind": ..., "step": ..., ...}`; numbers go to TensorBoard too. `step`: finished steps."""
        if self.folder is None:
            return
        # JSON has no nan and no infinity
        values = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
        with (self.folder / "log.jsonl").open("a") as lines:
            lines.write(json.dumps({"kind": kind, "step": step, "time": round(time.time(), 3), **values}) + "\n")
        for name, value in values.items():
            if isinstance(value, int | float):
                self._board.add_scalar(f"{kind}/{name}", value, step)
            elif isinstance(value, list) and value and all(isinstance(item, float) for item in value):
                for place, item in enumerate(value):
                    self._board.add_scalar(f"{kind}/{name}-{place}", item, step)
        if self._uploader and kind in UPLOADED_AT_ONCE:
            self._uploader.try_upload()

    def picture(self, name: str, step: int, image: Any) -> None:
        """A PIL image: OUT/pictures/NAME-STEP.png."""
        if self.folder is None:
            return
        folder = self.folder / "pictures"
        folder.mkdir(exist_ok=True)
        image.save(folder / f"{name}-{step:09d}.png")

    def close(self) -> None:
        """Everything is where it belongs, also what else was put into `folder` (the export).

        Raises:
            OSError: it could not be uploaded.
        """
        if self._board is not None:
            self._board.close()
        if self._uploader is not None:
            self._uploader.finish()
            self._scratch.cleanup()


class _Uploader:
    """Uploads what has changed in a local folder to an object store, as whole files.

    TensorBoard's own writer can write to fsspec URLs, but not this: it has log, pictures and export to go with, and a
    store that fails for a moment would end the run, since its writer thread hands the error on to the next `add_scalar`.
    """

    def __init__(self, fs: fsspec.AbstractFileSystem, root: str, folder: Path):
        self.fs, self.root, self.folder = fs, root, folder
        self._sent: dict[Path, tuple[int, int]] = {}
        self._one_at_a_time = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def fetch(self, name: str) -> None:
        """Download a file into the folder, if it is in the store."""
        if self.fs.exists(f"{self.root}/{name}"):
            self.fs.get_file(f"{self.root}/{name}", str(self.folder / name))

    def start(self, flush: Callable[[], None]) -> None:
        """Upload every 30 seconds from now on, in a thread. `flush` is called before each time."""

        def repeat() -> None:
            while not self._ended.wait(UPLOAD_EVERY):
                flush()
                self.try_upload()

        # a thread that a failed run leaves must not keep its process
        self._thread = threading.Thread(target=repeat, name="log upload", daemon=True)
        self._thread.start()

    def try_upload(self) -> None:
        """Upload what grows, and warn if that fails. The export, gigabytes written once, is left to `finish`."""
        try:
            self._upload(("log.jsonl", "run.html", "tensorboard", "pictures"))
        except Exception as error:  # noqa: BLE001  stores fail in many ways, and none is worth the run
            log.warning("%s: log and pictures were not uploaded (%s); tried again in a moment", self.root, error)

    def finish(self) -> None:
        """Upload everything.

        Raises:
            OSError: it could not be.
        """
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        self._upload(None)

    def _upload(self, names: tuple[str, ...] | None) -> None:
        with self._one_at_a_time:
            for file in sorted(path for path in self.folder.rglob("*") if path.is_file()):
                inside = file.relative_to(self.folder)
                facts = file.stat()
                state = (facts.st_size, facts.st_mtime_ns)
                if (names is None or inside.parts[0] in names) and self._sent.get(file) != state:
                    self.fs.put_file(str(file), f"{self.root}/{inside.as_posix()}")
                    self._sent[file] = state
