"""A folder of shards on any fsspec filesystem, what can go wrong with it, and the local folder for what is kept of it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import fsspec

from common.errors import UserError
from common.hashing import sha256_of_file
from common.paths import absolute, open_place
from common.shard_format import read_record

T = TypeVar("T")

FIRST_WAIT = 0.5  # seconds; each further wait is twice as long
ATTEMPTS = 5  # in all, over 7.5 s: what an overloaded server needs; a longer outage is for the job's restarts
AT_ONCE = 256  # small files in flight, and in memory
FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)


class ShardError(UserError):
    """Shards cannot be had, or are not what they say. Stops a run: the message names the file and the remedy."""


class CorruptSample(Exception):
    """The bytes of one sample are not what the index says. What to do with its slot is for the caller to decide."""


class Listed(NamedTuple):
    """A file in a listing. `tag`: changes with its content, as far as the filesystem can tell; "" if it cannot."""

    size: int | None
    tag: str


def cache_dir(given: str | os.PathLike[str] | None = None) -> Path:
    """Where indexes and shards are kept: `given`, or else in `FACEMAKEUP_CACHE`, or ~/.cache/facemakeup."""
    base = os.environ.get("FACEMAKEUP_CACHE") or Path.home() / ".cache" / "facemakeup"
    return Path(given if given is not None else Path(base) / "shards").expanduser().absolute()


def retrying(what: str, call: Callable[[], T], attempts: int = ATTEMPTS) -> T:
    """`call()`, again after a while when it fails.

    Raises:
        ShardError: it failed every time, or in a way that does not heal.
    """
    for attempt in range(attempts):
        try:
            return call()
        except FINAL as error:
            raise ShardError(f"{what}: {type(error).__name__}: {error}") from error
        except ShardError:
            raise
        except Exception as error:  # every filesystem has exceptions of its own
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise ShardError(f"{what}: the disk is full; make room or set a smaller cache_bytes") from error
            if attempt + 1 == attempts:
                raise ShardError(f"{what}: tried {attempts} times: {type(error).__name__}: {error}") from error
            time.sleep(FIRST_WAIT * 2**attempt)
    raise ValueError("attempts must be at least 1")


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """One process or thread at a time; a process that dies lets go. On a local disk: not every NFS can do this.

    Yields:
        Whether the lock was had; always, if it was waited for.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            try:
                yield True
            finally:
                # closing is not enough: a process that was forked meanwhile holds the same open file, and the lock with it
                fcntl.flock(file, fcntl.LOCK_UN)


def verify_once(path: Path, sha256: str, notes: Path) -> None:
    """Check a local file's sha256, unless a note says that this was done since it last changed. One process hashes.

    Raises:
        ShardError: it is another one; names both.
    """
    status = retrying(str(path), lambda: os.stat(path))
    facts = json.dumps([str(path), status.st_size, status.st_mtime_ns, sha256])
    # Python's own hash: OpenSSL's takes a lock, which a process that is forked meanwhile would wait for for ever
    note = notes / hashlib.blake2b(facts.encode(), digest_size=12).hexdigest()
    if note.exists():
        return
    with locked(notes / f"{note.name}.lock"):
        if note.exists():
            return
        found = retrying(str(path), lambda: sha256_of_file(path))
        if found != sha256:
            raise ShardError(
                f"{path}: its sha256 is {found}, its sidecar says {sha256}: the shard was changed or damaged;"
                " bring it again, or pack again"
            )
        note.write_text(facts)


class Folder:
    """A folder by its URL or local path. Cheap to make, safe to use after a fork."""

    def __init__(self, url: str | os.PathLike[str]):
        self.url = absolute(url).rstrip("/")
        self.is_local = "://" not in self.url
        self._made: tuple[int, fsspec.AbstractFileSystem, str] | None = None

    def _fs_and_base(self) -> tuple[fsspec.AbstractFileSystem, str]:
        # an asynchronous filesystem's connections and thread belong to the process that made it
        if self._made is None or self._made[0] != os.getpid():
            self._made = (os.getpid(), *open_place(self.url))
        return self._made[1:]

    def path(self, name: str) -> str:
        """As the filesystem names it."""
        return f"{self._fs_and_base()[1].rstrip('/')}/{name}"

    def files(self) -> dict[str, Listed]:
        """The folder's files, by name, sorted. A web server that lists none is asked for sizes.json instead.

        Raises:
            ShardError: the folder is not there.
        """
        fs, base = self._fs_and_base()
        web = "http" in fs.protocol
        try:
            entries = retrying(f"listing {self.url}", lambda: _list(fs, f"{base.rstrip('/')}/" if web else base))
            found = {
                urlsplit(entry["name"]).path.rsplit("/", 1)[-1] if web else entry["name"].rsplit("/", 1)[-1]: entry
                for entry in entries
                if entry["type"] == "file"
            }
        except ShardError as error:
            if not web and isinstance(error.__cause__, FileNotFoundError):
                raise ShardError(
                    f"data.shards: {self.url} is not there. `make curate` makes the sample's shards; others: "
                    "--set data.shards=FOLDER"
                ) from error
            if not web:
                raise
            found = {}
        if web and not any(name.endswith(".tar") for name in found):
            found = {name: {} for tar in self.sizes() for name in (tar, f"{tar.removesuffix('.tar')}.json")} | {
                "sizes.json": {}
            }
        return {
            name: Listed(found[name].get("size"), _tag(found[name]))
            for name in sorted(found)
            if name[:1] not in ("", ".")
        }

    def sizes(self) -> dict[str, Any]:
        """{name of a tar: samples}, which packing wrote last.

        Raises:
            ShardError: it cannot be read.
        """
        try:
            return read_record(self.read("sizes.json"))
        except ValueError as error:
            raise ShardError(
                f"{self.url}/sizes.json cannot be read ({error}): bring it again, or pack again"
            ) from error

    def info(self, name: str) -> Listed:
        fs, _ = self._fs_and_base()
        entry = retrying(f"{self.url}/{name}", lambda: fs.info(self.path(name)))
        return Listed(entry.get("size"), _tag(entry))

    def read(self, name: str, start: int | None = None, end: int | None = None) -> bytes:
        fs, _ = self._fs_and_base()
        data = retrying(f"{self.url}/{name}", lambda: fs.cat_file(self.path(name), start=start, end=end))
        if start is not None and end is not None and len(data) > end - start:
            return data[start:end]  # a web server may ignore the range
        return data

    def read_many(self, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """(name, content) of small files, many at a time where the filesystem can."""
        fs, _ = self._fs_and_base()
        for start in range(0, len(names), AT_ONCE):
            some = names[start : start + AT_ONCE]
            what = f"{self.url}: {some[0]} and {len(some) - 1} more"
            paths = [self.path(name) for name in some]
            # `cat` would read a name with `*?[` in it as a pattern
            got = retrying(what, lambda paths=paths: fs.cat_ranges(paths, None, None, on_error="raise"))
            yield from zip(some, got, strict=True)

    def open(self, name: str) -> IO[bytes]:
        """For reading here and there; seeks."""
        fs, _ = self._fs_and_base()
        options = {} if self.is_local else {"block_size": 1 << 20, "cache_type": "readahead"}
        return fs.open(self.path(name), "rb", **options)

    def download(self, name: str, local: Path) -> None:
        """One attempt; raises what the filesystem raises."""
        fs, _ = self._fs_and_base()
        fs.get_file(self.path(name), str(local))


def _list(fs: fsspec.AbstractFileSystem, base: str) -> list[dict]:
    fs.invalidate_cache()
    return fs.ls(base, detail=True)


def _tag(entry: dict) -> str:
    for key in ("ETag", "etag", "md5Hash", "content_md5", "mtime", "Last-Modified", "LastModified", "updated"):
        if entry.get(key):
            return str(entry[key])
    return ""
