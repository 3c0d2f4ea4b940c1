"""A folder on any filesystem, local or object store, in which files become visible whole or not at all.

On a local disk a file is written under a temporary name and renamed, on an object store it is one PUT. So a reader
never needs a lock, and "is it done?" is always "does this file exist?".
"""

from __future__ import annotations

import functools
import io
import json
import os
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from common.failures.damage import DamagedFile, MissingFile, json_of, table_of
from common.failures.transient import answer_code, is_overload, patiently
from common.local_files import BEING_WRITTEN, move_file, new_file
from common.paths import PathError, absolute, glob_in, is_local, open_place, remove_folder

REQUESTS = 32  # at a time, of one process to an object store
TAKEN = ("PreconditionFailed", "412")  # what a store answers where a file was to be created and is there


def json_bytes(value: Any) -> bytes:
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    return text.encode(errors="surrogatepass")


def parquet_bytes(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _patient(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method of `Storage`, tried again while its store fails for a moment; not before the store has answered once, be it
    with 503: until then it is a wrong address, say, and a person is waiting to hear of it."""

    @functools.wraps(method)
    def patient(self: Storage, *arguments: Any, **named: Any) -> Any:
        if not self.has_answered:
            try:
                result = method(self, *arguments, **named)
            except Exception as error:
                if not is_overload(error):
                    raise
            else:
                self.has_answered = True
                return result
            self.has_answered = True
        return patiently(method)(self, *arguments, **named)

    return patient


class Storage:
    """A folder: `Storage("runs/a")`, `Storage("s3://bucket/runs/a")`; cheap to make, safe to pickle. Paths are relative to
    it, and use "/"."""

    def __init__(self, root: str | os.PathLike[str]):
        self.root = absolute(root)
        self.has_answered = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.root!r})"

    def __reduce__(self) -> tuple[type[Storage], tuple[str], dict[str, bool]]:
        return type(self), (self.root,), {"has_answered": self.has_answered}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Storage) and other.root == self.root

    def __hash__(self) -> int:
        return hash(self.root)

    @functools.cached_property
    def _fs_and_base(self) -> tuple[fsspec.AbstractFileSystem, str]:
        return open_place(self.root)

    @property
    def fs(self) -> fsspec.AbstractFileSystem:
        return self._fs_and_base[0]

    @property
    def is_local(self) -> bool:
        return is_local(self.fs)

    def path(self, relative: str) -> str:
        """The path as `self.fs` understands it."""
        return f"{self._fs_and_base[1].rstrip('/')}/{relative}" if relative else self._fs_and_base[1]

    def url(self, relative: str) -> str:
        """The path as a person, or another library, would name it."""
        return f"{self.root.rstrip('/')}/{relative}"

    # -- reading ---------------------------------------------------------------------------------------------

    @_patient
    def exists(self, relative: str) -> bool:
        try:
            self.fs.info(self.path(relative))  # `fs.exists` answers "no" where it could not ask
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    @_patient
    def glob(self, pattern: str) -> list[str]:
        """Relative paths that match, sorted. Files being written are never among them."""
        base = self.path("").rstrip("/")
        hits = [hit.removeprefix(f"{base}/") for hit in glob_in(self.fs, base, pattern)]
        return [hit for hit in hits if not hit.rsplit("/", 1)[-1].startswith(".")]

    @_patient
    def size(self, relative: str) -> int:
        """Of a file, in bytes."""
        return int(self.fs.size(self.path(relative)))

    @_patient
    def sizes(self, folder: str) -> dict[str, int]:
        """Bytes of each file of a folder, by its name; none where there is no such folder."""
        try:
            listed = self.fs.ls(self.path(folder), detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        return {entry["name"].rsplit("/", 1)[1]: int(entry["size"]) for entry in listed if entry["type"] == "file"}

    @_patient
    def files(self) -> list[str]:
        """Relative paths of all files, in all folders, sorted."""
        base = self.path("").rstrip("/") + "/"
        return sorted(path.removeprefix(base) for path in self.fs.find(base))

    @_patient
    def is_folder(self) -> bool:
        return bool(self.fs.isdir(self.path("")))

    @_patient
    def read_bytes(self, relative: str, offset: int = 0, size: int | None = None) -> bytes:
        end = None if size is None else offset + size
        try:
            # by a range always: s3fs asks for the size first where there is none
            return self.fs.cat_file(self.path(relative), start=offset, end=end)
        except OSError as error:
            if offset == 0 and answer_code(error.__cause__) == "InvalidRange":
                return b""  # of an empty object S3 refuses any range
            if not isinstance(error, FileNotFoundError):
                raise
            if self.is_local and not os.path.exists(self.path("")):
                raise PathError(f"{self.root}: this folder is gone: mount its disk again, or restore it") from error
            raise self.damaged(relative, "is not there", MissingFile) from error

    @_patient
    def get_file(self, relative: str, local: str | os.PathLike[str]) -> None:
        """Copy a file to a local one, which grows as it comes: in one request, however large it is."""
        # s3fs would ask for a large one in parts
        single = {"max_concurrency": 1} if "s3" in self.fs.protocol else {}
        try:
            self.fs.get_file(self.path(relative), os.fspath(local), **single)
        except FileNotFoundError as error:
            raise self.damaged(relative, "is not there", MissingFile) from error

    @_patient
    def remove_folder(self, relative: str) -> None:
        remove_folder(self.fs, self.path(relative))

    def remedy(self, relative: str) -> str:
        """What a person can do about a file that is gone or damaged."""
        return "restore this file from a copy"

    def damaged(self, relative: str, how: str, kind: type[DamagedFile] = DamagedFile) -> DamagedFile:
        """The error that tells of a damaged file; `how` follows its name."""
        return kind(f"{self.url(relative)} {how}: {self.remedy(relative)}")

    def read_json(self, relative: str, keys: Collection[str] = ()) -> Any:
        """What a file says; with `keys`, an object that has these.

        Raises:
            DamagedFile: it does not.
        """
        data = self.read_bytes(relative)
        try:
            return json_of(data, keys)
        except ValueError as error:
            raise self.damaged(relative, str(error)) from error

    def read_table(
        self, relative: str, columns: Collection[str] | None = None, optional: Collection[str] = ()
    ) -> pa.Table:
        """These columns of a table, all of them for None, and those of `optional` that it has.

        Raises:
            DamagedFile: it has not all of `columns`, or is no table.
        """
        data = self.read_bytes(relative)
        try:
            # a native buffer: pyarrow's threads may outlive the interpreter when they read a Python file object
            return table_of(pa.BufferReader(data), columns, optional)
        except ValueError as error:
            raise self.damaged(relative, str(error)) from error

    def read_each(
        self, paths: Sequence[str], columns: Collection[str] | None = None, optional: Collection[str] = ()
    ) -> Iterator[pa.Table]:
        """The tables at these paths, one after the other. An object store answers after 30 ms, whatever is asked: there
        the next ones are on their way meanwhile."""
        if self.is_local:
            yield from (self.read_table(path, columns, optional) for path in paths)
            return
        with ThreadPoolExecutor(REQUESTS) as requests:
            waiting: deque[Future[pa.Table]] = deque()
            for path in paths:
                waiting.append(requests.submit(self.read_table, path, columns, optional))
                if len(waiting) >= 2 * REQUESTS:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def read_tables(self, pattern: str, columns: Collection[str] | None = None) -> pa.Table | None:
        """All tables that match, one below the other in the order of their names; None where there is none."""
        tables = list(self.read_each(self.glob(pattern), columns))
        return pa.concat_tables(tables, promote_options="permissive") if tables else None

    # -- writing: whole, or not at all ------------------------------------------------------------------------

    @_patient
    def write_bytes(self, relative: str, data: bytes) -> None:
        target = self.path(relative)
        if not self.is_local:
            self.fs.pipe_file(target, data)
            return
        with new_file(Path(target)) as file:
            file.write(data)

    @_patient
    def write_new(self, relative: str, data: bytes) -> bool:
        """Create a file. False: one with other bytes was there, and stays. Of several writers at once one is first."""
        target = self.path(relative)
        try:
            if self.is_local:
                with new_file(Path(target), may_replace=False) as file:
                    file.write(data)
            else:
                self.fs.pipe_file(target, data, mode="create")
        except OSError as error:
            if not isinstance(error, FileExistsError) and answer_code(error.__cause__) not in TAKEN:
                raise
            # a request that was sent again after it had succeeded finds its own file
            return self.fs.cat_file(target) == data
        return True

    def write_json(self, relative: str, value: Any) -> None:
        self.write_bytes(relative, json_bytes(value))

    def write_table(self, relative: str, table: pa.Table) -> None:
        self.write_bytes(relative, parquet_bytes(table))

    @_patient
    def put_file(self, local: str | os.PathLike[str], relative: str) -> None:
        """Move a finished local file to its final name in this folder."""
        if not self.is_local:
            self.fs.put_file(os.fspath(local), self.path(relative))
            Path(local).unlink()
            return
        move_file(Path(local), Path(self.path(relative)))

    def sweep(self) -> list[str]:
        """Delete temporary files that a killed writer left behind. For the driver, while none of its tasks is at work; what
        its own threads are writing (a heartbeat, its progress) stays."""
        if not self.is_local or not Path(self.root).exists():
            return []
        left = [path for path in Path(self.root).rglob(".*.tmp") if path not in BEING_WRITTEN and path.is_file()]
        for path in left:
            path.unlink(missing_ok=True)
        return [str(path) for path in left]
