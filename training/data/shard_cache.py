"""A bounded folder of downloaded shards, shared by all processes of a machine, any of which may be killed at any moment.

    shards/KEY.tar            a whole shard, verified before it got this name
    shards/KEY.BYTES.partial  a download under way; BYTES are set aside for it
    locks/KEY.lock            held by who downloads it
    pins/PID-NUMBER           held by a process; lists the shards that it reads now or soon
    lock                      held while room is made, a file gets its name, or pins change

All locks are flock(2): the kernel lets go of what a killed process held. So a partial file whose lock is free, and
a list of pins whose lock is free, are left-overs, and whoever meets them removes them.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from common.hashing import sha256_of_file
from training.data.folder import ShardError, locked, retrying

PAUSE = 0.1  # seconds between two looks for room
PATIENCE = 600.0  # seconds a reader waits for others to let go of their shards


@dataclass
class _Pins:
    """The file, locked by this process, that lists the `keys` of the shards that it reads now or soon."""

    pid: int = field(default_factory=os.getpid)
    lock: threading.Lock = field(default_factory=threading.Lock)
    file: IO[bytes] | None = None
    keys: frozenset[str] = frozenset()


class ShardCache:
    """Args: `root`: a local folder; `limit`: bytes, downloads under way included."""

    def __init__(self, root: Path, limit: int, patience: float = PATIENCE):
        self.root, self.limit, self.patience = root, int(limit), patience
        for name in ("shards", "locks", "pins"):
            (root / name).mkdir(parents=True, exist_ok=True)
        self._pins = _Pins()

    def _own_pins(self) -> _Pins:
        """Those of this process. After a fork new ones: an inherited file would keep the parent's pins after its death."""
        if self._pins.pid != os.getpid():
            if self._pins.file is not None:
                self._pins.file.close()
            self._pins = _Pins()
        return self._pins

    def path(self, key: str) -> Path:
        return self.root / "shards" / f"{key}.tar"

    def used(self) -> int:
        """Bytes that are held or set aside."""
        with locked(self.root / "lock"):
            return sum(size for _, size in self._held()) + sum(map(_set_aside, self._partials()))

    # -- pins --------------------------------------------------------------------------------------------------------

    def pin(self, keys: Iterable[str]) -> None:
        """What this process reads now or soon, instead of what it named before: nobody removes it. It need not be there."""
        keys, own = frozenset(keys), self._own_pins()
        with own.lock:
            if keys == own.keys and own.file is not None:
                return
            with locked(self.root / "lock"):
                if own.file is None:
                    own.file = open(self.root / "pins" / f"{os.getpid()}-{uuid.uuid4().hex[:8]}", "xb", buffering=0)
                    fcntl.flock(own.file, fcntl.LOCK_EX)
                own.file.seek(0)
                own.file.truncate()
                own.file.write("\n".join(sorted(keys)).encode())
                own.keys = keys

    def close(self) -> None:
        """Let go of all pins: who looks next finds the list without an owner."""
        own = self._own_pins()
        with own.lock:
            if own.file is not None:
                # closing is not enough: a process that was forked meanwhile holds the same open file, and the lock with it
                fcntl.flock(own.file, fcntl.LOCK_UN)
                own.file.close()
                own.file, own.keys = None, frozenset()

    def _pinned_by_all(self) -> set[str]:
        keys: set[str] = set()
        for path in (self.root / "pins").iterdir():
            with open(path, "rb") as file:
                if _is_free(file.fileno()):
                    path.unlink()
                else:
                    keys.update(file.read().decode().split())
        return keys

    # -- fetching ----------------------------------------------------------------------------------------------------

    def fetch(
        self, key: str, size: int, sha256: str, name: str, download: Callable[[Path], None], *, wait: bool
    ) -> bool:
        """See to it that a shard is there. Pin it first, or it may be gone again at once.

        Args:
            size, sha256: what it must be; sha256 "" if nobody wrote it down.
            name: its URL, for messages.
            download: one attempt to download it to a path.
            wait: for room, and for whoever is fetching it; otherwise False is returned in either case.

        Raises:
            ShardError: it cannot be had, is not what it must be, or no room came up in time.
        """
        final = self.path(key)
        if self._there(final):
            return True
        if size > self.limit:
            raise ShardError(f"{name} has {size:,} bytes, cache_bytes is {self.limit:,}: set it to more")
        with locked(self.root / "locks" / f"{key}.lock", wait=wait) as mine:
            if not mine:
                return False
            # somebody else may have fetched it while this process waited for the lock
            if self._there(final):
                return True
            partial = final.with_name(f"{key}.{size}.partial")
            if not self._make_room(partial, size, self.patience if wait else 0):
                if not wait:
                    return False
                raise ShardError(
                    f"no room for {name}: {size:,} bytes more are needed, and all of cache_bytes ({self.limit:,}) is in"
                    f" use by other readers since {self.patience:g} s: set it to more, or read with fewer processes"
                )
            try:
                _download(partial, size, sha256, name, download)
                with locked(self.root / "lock"):  # or who counts may see neither of the two names
                    os.replace(partial, final)
            finally:
                partial.unlink(missing_ok=True)
        return True

    def _there(self, final: Path) -> bool:
        try:
            os.utime(final)  # the least recently used is the first to go
        except FileNotFoundError:
            return False
        return True

    def _make_room(self, partial: Path, size: int, patience: float) -> bool:
        """Set `size` bytes aside for a partial file whose lock the caller holds."""
        end = time.monotonic() + patience
        while True:
            with locked(self.root / "lock"):
                partial.unlink(missing_ok=True)
                if self._evict_for(size):
                    partial.touch()
                    return True
            if time.monotonic() >= end:
                return False
            time.sleep(PAUSE)

    def _evict_for(self, size: int) -> bool:
        """Remove the least recently used shards that nobody pinned, as many as needed; none if that is not enough."""
        for path in self._partials():
            with locked(self.root / "locks" / f"{path.name.split('.')[0]}.lock", wait=False) as abandoned:
                if abandoned:
                    path.unlink(missing_ok=True)
        shards = self._held()
        needed = sum(held for _, held in shards) + sum(map(_set_aside, self._partials())) + size - self.limit
        pinned = self._pinned_by_all()
        free = [(path, held) for path, held in shards if path.stem not in pinned]
        if needed > sum(held for _, held in free):
            return False
        for path, held in free:
            if needed <= 0:
                break
            path.unlink()
            needed -= held
        return True

    def _held(self) -> list[tuple[Path, int]]:
        """(path, bytes) of the shards that are there, the least recently used first."""
        found = []
        for path in (self.root / "shards").glob("*.tar"):
            try:
                status = path.stat()
            except FileNotFoundError:  # removed by another process since it was listed
                continue
            found.append((status.st_mtime_ns, path, status.st_size))
        return [(path, size) for _, path, size in sorted(found)]

    def _partials(self) -> list[Path]:
        return list((self.root / "shards").glob("*.partial"))


def _set_aside(partial: Path) -> int:
    return int(partial.name.split(".")[1])


def _is_free(descriptor: int) -> bool:
    """Does nobody else hold the lock? If so it is the caller's until the file is closed."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _download(partial: Path, size: int, sha256: str, name: str, download: Callable[[Path], None]) -> None:
    def once() -> None:
        download(partial)
        if (got := partial.stat().st_size) != size:
            raise OSError(f"got {got:,} of {size:,} bytes")

    for _ in range(2 if sha256 else 1):
        retrying(name, once)
        digest = sha256_of_file(partial) if sha256 else ""
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        if digest == sha256:
            return
    raise ShardError(
        f"{name}: downloaded twice, its sha256 is {digest}, its sidecar says {sha256}:"
        " the shard was changed or damaged where it is kept; bring it there again"
    )
