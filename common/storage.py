"""A folder on any filesystem, local or object store, in which files become visible whole or not at all.

On a local disk a file is written under a temporary name and renamed, on an object store it is one PUT. So a reader
never needs a lock, and "is it done?" is always "does this file exist?".
"""

from __future__ import annotations

import contextlib
import fnmatch
import io
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from common.errors import UserError
from common.mendable import first_line

_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")
_MAGIC = re.compile(r"[*?\[]")


class PathError(UserError, ValueError):
    """A path that its filesystem cannot hold; the message says why."""


class DamagedFile(UserError, ValueError):
    """A file whose content is not what its name says: it was changed from outside, or its disk is failing."""


def is_utf8(path: str) -> bool:
    """Whether a path can be written as UTF-8: a disk can also hold bytes that cannot."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def absolute(place: str | os.PathLike[str]) -> str:
    """A path made absolute, "~/" filled in; a URL as it is (but file://, which is a path)."""
    text = os.fspath(place)
    if text.startswith("file://"):
        text = text.removeprefix("file://")
    if _URL.match(text):
        return text
    # "~x" may be a folder's name
    return str((Path(text).expanduser() if text == "~" or text.startswith("~/") else Path(text)).resolve())


def open_place(place: str | os.PathLike[str]) -> tuple[fsspec.AbstractFileSystem, str]:
    """The filesystem of a path or URL, and the path as that filesystem names it, letter for letter.

    fsspec's own `url_to_fs` gives "::" a meaning, its `glob`, `rm`, `get`, `put` and `cat` give one to `*?[`; neither
    has one here. Listings are not cached: what another worker wrote a moment ago must be seen.

    Raises:
        PathError: the place is in a bucket, and its name is no text.
    """
    text = absolute(place)
    protocol = text.partition("://")[0] if _URL.match(text) else "file"
    if protocol != "file" and not is_utf8(text):
        raise PathError(f"{text!a}: a bucket's keys are UTF-8 text, and this is none: take another name")
    kind = fsspec.get_filesystem_class(protocol)
    fs = kind(**(kind._get_kwargs_from_urls(text) | {"use_listings_cache": False}))
    return fs, text if protocol == "file" else kind._strip_protocol(text)


def open_file(place: str | os.PathLike[str]) -> BinaryIO:
    """The file at a path or URL, to read; its path is no pattern."""
    fs, path = open_place(place)
    return fs.open(path, "rb")


def files_at(place: str) -> list[str]:
    """URLs of the files that a path, URL or pattern names, sorted. What exists as it stands is itself, a folder too; so
    are the leading folders of a pattern."""
    fs, path = open_place(place)
    if fs.exists(path):
        return [fs.unstrip_protocol(path)]
    base, parts = "", path.split("/")
    while len(parts) > 1 and not (_MAGIC.search(parts[0]) and not fs.exists(base + parts[0])):
        base += parts.pop(0) + "/"
    return [fs.unstrip_protocol(hit) for hit in glob_in(fs, base, "/".join(parts), files_only=True)]


def glob_in(fs: fsspec.AbstractFileSystem, base: str, pattern: str, files_only: bool = False) -> list[str]:
    """Paths below the folder `base` that match, sorted, `base` included. Only the pattern's `*?[` have a meaning; a part
    `**` is any number of folders."""
    fs.invalidate_cache()
    level = [base.rstrip("/")]
    *folders, last = pattern.split("/")
    if last == "**":
        folders, last = [*folders, "**"], "*"
    for part in folders:
        if part == "**":
            level = [inner for folder in level for inner, _, _ in fs.walk(folder)]
        elif _MAGIC.search(part):
            level = [name for folder in level for name, kind in _entries(fs, folder, part) if kind == "directory"]
        else:
            level = [f"{folder}/{part}" for folder in level]
    found = [entry for folder in level for entry in _entries(fs, folder, last)]
    return sorted({name for name, kind in found if kind != "directory" or not files_only})


def _entries(fs: fsspec.AbstractFileSystem, folder: str, pattern: str) -> list[tuple[str, str]]:
    """Path and type of what is in a folder, by its name; none where there is no folder."""
    try:
        listed = fs.ls(folder, detail=True)
    except (FileNotFoundError, NotADirectoryError):
        return []
    pairs = [(entry["name"].rstrip("/"), entry["type"]) for entry in listed]
    return [pair for pair in pairs if pair[0] != folder and fnmatch.fnmatchcase(pair[0].rsplit("/", 1)[-1], pattern)]


def remove_folder(fs: fsspec.AbstractFileSystem, folder: str) -> None:
    """Delete a folder and what is in it."""
    if is_local(fs):
        shutil.rmtree(folder)
        return
    with ThreadPoolExecutor(16) as requests:
        list(requests.map(fs.rm_file, fs.find(folder)))


def is_local(fs: fsspec.AbstractFileSystem) -> bool:
    """Whether a filesystem is a disk of this machine (or one that is mounted on it)."""
    return "file" in (fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,))


@contextlib.contextmanager
def _new_file(final: Path) -> Iterator[BinaryIO]:
    """A local file to write, which gets its final name, whole and on the disk, when the block ends without an error."""
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f".{final.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, final)
    finally:
        temporary.unlink(missing_ok=True)


class Storage:
    """A folder: `Storage("runs/a")`, `Storage("s3://bucket/runs/a")`; cheap to make, safe to pickle.

    Every path in its methods is relative to its root and uses "/".
    """

    def __init__(self, root: str | os.PathLike[str]):
        self.root = absolute(root)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.root!r})"

    def __reduce__(self) -> tuple[type[Storage], tuple[str]]:
        return type(self), (self.root,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Storage) and other.root == self.root

    def __hash__(self) -> int:
        return hash(self.root)

    @cached_property
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

    def exists(self, relative: str) -> bool:
        return self.fs.exists(self.path(relative))

    def glob(self, pattern: str) -> list[str]:
        """Relative paths that match, sorted. Files being written are never among them."""
        base = self.path("").rstrip("/")
        hits = [hit.removeprefix(f"{base}/") for hit in glob_in(self.fs, base, pattern)]
        return [hit for hit in hits if not hit.rsplit("/", 1)[-1].startswith(".")]

    def read_bytes(self, relative: str, offset: int = 0, size: int | None = None) -> bytes:
        end = None if size is None else offset + size
        try:
            return self.fs.cat_file(self.path(relative), start=offset, end=end)
        except FileNotFoundError as error:
            if self.is_local and not os.path.exists(self.path("")):
                raise PathError(f"{self.root}: this folder is gone: mount its disk again, or restore it") from error
            raise

    def remove_folder(self, relative: str) -> None:
        remove_folder(self.fs, self.path(relative))

    def read_json(self, relative: str) -> Any:
        data = self.read_bytes(relative)
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            raise DamagedFile(
                f"{self.url(relative)} is no JSON ({first_line(error)}): restore this file from a copy"
            ) from error

    def read_table(self, relative: str, columns: list[str] | None = None) -> pa.Table:
        # a native buffer: pyarrow's threads may outlive the interpreter when they read a Python file object
        data = pa.BufferReader(self.read_bytes(relative))
        try:
            return pq.ParquetFile(data).read(columns=columns, use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise DamagedFile(
                f"{self.url(relative)} is no parquet file, or damaged ({first_line(error)}): restore this file from a copy"
            ) from error

    def read_tables(self, pattern: str, columns: list[str] | None = None) -> pa.Table | None:
        """All tables that match, one below the other in the order of their names; None where there is none."""
        tables = [self.read_table(path, columns) for path in self.glob(pattern)]
        return pa.concat_tables(tables, promote_options="permissive") if tables else None

    # -- writing: whole, or not at all ------------------------------------------------------------------------

    def write_bytes(self, relative: str, data: bytes) -> None:
        target = self.path(relative)
        if not self.is_local:
            self.fs.pipe_file(target, data)
            return
        with _new_file(Path(target)) as file:
            file.write(data)

    def write_json(self, relative: str, value: Any) -> None:
        self.write_bytes(
            relative,
            (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode(errors="surrogatepass"),
        )

    def write_table(self, relative: str, table: pa.Table) -> None:
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        self.write_bytes(relative, buffer.getvalue())

    def put_file(self, local: str | os.PathLike[str], relative: str) -> None:
        """Move a finished local file to its final name in this folder."""
        if not self.is_local:
            self.fs.put_file(os.fspath(local), self.path(relative))
            Path(local).unlink()
            return
        # shutil.move would copy under the final name when the folders are on two file systems
        with open(local, "rb") as source, _new_file(Path(self.path(relative))) as file:
            shutil.copyfileobj(source, file, 1 << 24)
        Path(local).unlink()

    def sweep(self) -> list[str]:
        """Delete temporary files that a killed writer left behind. Called once, by the driver, before a step."""
        if not self.is_local or not Path(self.root).exists():
            return []
        left = [path for path in Path(self.root).rglob(".*.tmp") if path.is_file()]
        for path in left:
            path.unlink(missing_ok=True)
        return [str(path) for path in left]
