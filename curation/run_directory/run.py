"""A run directory on any filesystem: its layout and its manifest.

A run is a folder that only grows; each file becomes visible whole (common/storage.py).

    RUN/manifest.json                     recipe as resolved, content hash, code version, weights, seeds
    RUN/candidates/*.parquet              one row an image, every one with its rank
    RUN/selected/*.parquet                the candidates to fetch, in id order
    RUN/fetched/ROUND/PART-HASH.tar, PART.parquet   bytes, and one row an attempt
    RUN/fetched/ROUND/images/PART-HASH.parquet   what that tar holds, and what the sources say of it
    RUN/fetched/snapshot-HASH.parquet     id -> tar, offset, size, sha256
    RUN/scores/UNIT-HASH.parquet          decode facts and every filter's evidence of a unit's images
    RUN/cuts/NAME/                        thresholds.yaml, verdicts, plan.parquet
    RUN/annotations/ENCODER-FINGERPRINT/* chosen face, landmarks, identity
    RUN/shards/NAME/NNNNN.{tar,json}      what the trainer reads
    RUN/drivers/NNNNNN.json               whose turn it is
    RUN/report.html, progress.json, forecast.json
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from common.failures.damage import DamagedFile, MissingFile, groups_of, table_of
from common.paths import require_writable_place
from common.storage import Storage
from common.version import VERSION

# where a file is gone or damaged, what to delete so that the same command makes it again, the same. What is not here came
# from the web, or says who is in what
MADE_AGAIN = {
    r"(candidates|selected)/.*": "selected/counts.json",
    r"(fetched/snapshot(-\d{4})?)(-\w+)?\.\w+": r"\1.json",
    r"(cuts/.*/verdicts/.*/).*": r"\1funnel.json",
    r"(cuts|scores|annotations|shards|drivers)/.*": r"\g<0>",
}


class Run(Storage):
    """A run directory. `Run("runs/a")`, `Run("s3://bucket/runs/a")`; cheap to make, safe to pickle.

    Raises:
        PathError: a place where no run can be.
    """

    def __init__(self, root: str | os.PathLike[str]):
        require_writable_place(root)
        super().__init__(root)

    def remedy(self, relative: str) -> str:
        if relative == "manifest.json":
            return "delete it, and `make curate` with the run's RECIPE makes it again"
        for pattern, deleted in MADE_AGAIN.items():
            if match := re.fullmatch(pattern, relative):
                what = match.expand(deleted)
                return f"delete {'it' if what == relative else self.url(what)}, and `make curate` makes it again"
        return "restore it from a copy, or begin again in a new run directory"

    def read_columns(self, relative: str, columns: list[str]) -> pa.Table:
        """These columns of a table whose others are large, which are not read: of a bucket in a request a column
        and two more.

        Raises:
            DamagedFile: it has not all of them, or is no table.
        """
        with self._named(relative):
            return table_of(self._in_parts(relative), columns)

    def read_groups(self, relative: str, columns: list[str]) -> Iterator[pa.Table]:
        """These columns of a table that is large, a row group at a time; requests and errors as `read_columns`."""
        with self._named(relative):
            yield from groups_of(self._in_parts(relative), columns)
        pa.default_memory_pool().release_unused()  # else a driver keeps several times what it holds of the table

    def _in_parts(self, relative: str) -> pa.NativeFile:
        """A file of which only what is asked for is read, in the caller's thread alone: pyarrow's own may outlive the
        interpreter when they read a Python file object."""
        if self.is_local:
            return pa.OSFile(os.fsencode(self.path(relative)))  # a name need not be text
        return pa.PythonFile(_Ranges(self, relative), "r")

    @contextlib.contextmanager
    def _named(self, relative: str) -> Iterator[None]:
        """What is wrong with a file, with its name and the remedy."""
        try:
            yield
        except FileNotFoundError as error:
            raise self.damaged(relative, "is not there", MissingFile) from error
        except DamagedFile:
            raise
        except ValueError as error:
            raise self.damaged(relative, str(error)) from error

    # -- manifest -----------------------------------------------------------------------------------------------

    def manifest(self) -> dict[str, Any]:
        return self.read_json("manifest.json", ("recipe",)) if self.exists("manifest.json") else {}

    def update_manifest(self, **entries: Any) -> dict[str, Any]:
        """Add entries; those that are there already are replaced."""
        manifest = {**self.manifest(), **entries, "code_version": VERSION}
        self.write_json("manifest.json", manifest)
        return manifest

    @contextlib.contextmanager
    def scratch(self, folder: str, prefix: str = "") -> Iterator[Path]:
        """A temporary local folder, on the run's own disk where that is local: that is where there is room for it. Else
        where TMPDIR says."""
        parent = Path(self.path(folder)) if self.is_local else None
        if parent:
            parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        try:
            yield made
        finally:
            shutil.rmtree(made, ignore_errors=True)

    @contextlib.contextmanager
    def emptied(self, folder: str) -> Iterator[None]:
        """Around all that works in `scratch(folder)`: what killed workers left there goes, before and after."""
        place = self.path(folder) if self.is_local else None
        if place:
            shutil.rmtree(place, ignore_errors=True)
        try:
            yield
        finally:
            if place:
                shutil.rmtree(place, ignore_errors=True)


class _Ranges(io.RawIOBase):
    """A file to read from, of which only what is asked for is read."""

    def __init__(self, run: Run, relative: str):
        self._run, self._relative, self._size, self._at = run, relative, run.size(relative), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        stop = self._size if size < 0 else min(self._size, self._at + size)
        data = self._run.read_bytes(self._relative, self._at, stop - self._at) if stop > self._at else b""
        self._at += len(data)
        return data
