"""Random access to samples in shards: in place on a local disk, through a bounded cache from anywhere else.

A sample is one pread. What is needed next is known (training/data/order.py), so threads fetch the shards of the next
windows, or verify those of a local folder, before anybody asks for them.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import threading
import weakref
from collections import OrderedDict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from common.hashing import sha256_of_bytes
from training.data.folder import CorruptSample, Folder, ShardError, cache_dir, retrying, verify_once
from training.data.index import ShardIndex
from training.data.order import Order
from training.data.prefetch import Prefetcher
from training.data.shard_cache import PATIENCE, ShardCache

OPEN_FILES = 128  # far below the usual limit of 1,024 a process


class _OpenFile:
    """A descriptor that is closed when the last thread that reads from it has let go."""

    def __init__(self, path: Path | str):
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self.descriptor)


@dataclass
class _ProcessState:
    """What each process has of its own: after a fork the parent's threads are gone and its locks may be held for ever.

    `at`: the windows that the lanes stand in; `wanted`: shards that are needed now or next.
    """

    pid: int = field(default_factory=os.getpid)
    lock: threading.RLock = field(default_factory=threading.RLock)
    files: OrderedDict[int, _OpenFile] = field(default_factory=OrderedDict)
    order: Order | None = None
    lanes: tuple[int, ...] = ()
    at: list[tuple[int, int]] = field(default_factory=list)
    wanted: list[int] = field(default_factory=list)
    prefetcher: Prefetcher | None = None


class Shards:
    """Samples by (shard, position). Safe to fork, and to read from in threads.

    Args:
        index: what is where.
        cache: local folder for shards from elsewhere and for what was verified; None: `training.data.folder.cache_dir`.
        cache_bytes: how much of it shards may take, over all processes of the machine; None: as much as all shards.

    A shard's sha256 is checked when it is downloaded, or before the first sample of a local one is read, and not again
    until the file changes.

    Raises:
        ShardError: the disk cannot hold `cache_bytes`.
    """

    def __init__(
        self,
        index: ShardIndex,
        cache: str | os.PathLike[str] | None = None,
        cache_bytes: int | None = None,
        patience: float = PATIENCE,
    ):
        self.index, self.folder = index, Folder(index.url)
        self.cache_dir = cache_dir(cache)
        self.cache: ShardCache | None = None
        if not self.folder.is_local:
            total = int(index.bytes.sum())
            self.cache = ShardCache(self.cache_dir, total if cache_bytes is None else cache_bytes, patience)
            self._check_disk(min(self.cache.limit, total), cache_bytes)
        self._state = _ProcessState()

    def _own(self) -> _ProcessState:
        """The state of this process; a new one after a fork."""
        if self._state.pid != os.getpid():
            self._state = _ProcessState()
        return self._state

    # -- reading -----------------------------------------------------------------------------------------------------

    def read(self, shard: int, position: int, extensions: Collection[str] | None = None) -> dict[str, bytes]:
        """{extension: bytes} of a sample; `extensions`: only of these members.

        Raises:
            CorruptSample: its bytes are not what the index says, or the sample was taken out.
            ShardError: the shard cannot be had.
        """
        members = self.index.members(shard, position)
        name, sample_id = self.index.names[shard], self.index.id(shard, position)
        if not members:
            raise CorruptSample(f"{name}: sample {sample_id} was taken out")
        if extensions is not None:
            members = {extension: members[extension] for extension in members if extension in extensions}
        low = min(offset for offset, _ in members.values()) - tarfile.BLOCKSIZE
        high = max(offset + size for offset, size in members.values())
        file = self._open(shard)
        data = retrying(self._url(shard), lambda: _pread(file.descriptor, high - low, low))
        found = {}
        for extension, (offset, size) in members.items():
            at = offset - low
            header, member = data[at - tarfile.BLOCKSIZE : at], f"{sample_id}.{extension}"
            if not _is_header_of(header, member, size):
                self._check_header(header, member, size, f"{name}: sample {sample_id}: .{extension}")
            found[extension] = data[at : at + size]
        return found

    def _check_header(self, header: bytes, expected: str, size: int, where: str) -> None:
        try:
            info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise CorruptSample(f"{where}: no tar header ({error})") from error
        # another maker's name may be longer than a header holds, or differ in case
        if info.size != size or (info.name != expected and not self.index.foreign):
            raise CorruptSample(f"{where}: the tar has {info.name} of {info.size} bytes, the index {size} bytes")

    def _open(self, shard: int) -> _OpenFile:
        own = self._own()
        with own.lock:
            if shard in own.files:
                own.files.move_to_end(shard)
                return own.files[shard]
        self._release(shard)
        self._prepare(shard, wait=True)
        path = self.cache.path(self._key(shard)) if self.cache else self._local(shard)
        file = retrying(self._url(shard), lambda: _OpenFile(path))
        with own.lock:
            own.files[shard] = file
            while len(own.files) > OPEN_FILES:
                own.files.popitem(last=False)
        return file

    # -- prefetching -------------------------------------------------------------------------------------------------

    def follow(self, order: Order, lanes: Iterable[int], node_lanes: Iterable[int] | None = None) -> None:
        """Prefetch what `lanes` need, from now on, wherever `advance` says that they are.

        Args:
            order: over the shards of this index.
            lanes: those that this process reads.
            node_lanes: those of all processes that share the cache; None: `lanes`.

        Raises:
            ShardError: the cache cannot hold two windows of each lane; says what would do.
        """
        if not np.array_equal(order.counts, self.index.counts):
            raise ValueError("the order is of other shards than the index")
        lanes = tuple(lanes)
        if self.cache and self.cache.limit < (needed := self.bytes_needed(order, node_lanes or lanes)):
            raise ShardError(
                f"cache_bytes is {self.cache.limit:,}: two windows of up to {order.window_shards} shards for each of this"
                f" machine's {len(tuple(node_lanes or lanes))} lanes need {needed:,}; set it to that or more, or choose a"
                " smaller window, or fewer lanes"
            )
        own = self._own()
        with own.lock:
            own.order, own.lanes, own.at = order, lanes, []

    def bytes_needed(self, order: Order, lanes: Iterable[int]) -> int:
        """What two windows of each lane can take at most, in any epoch."""
        largest = sorted(self.index.bytes.tolist(), reverse=True)[: order.window_shards]
        return min(int(self.index.bytes.sum()), 2 * len(tuple(lanes)) * sum(largest))

    def advance(self, t: int) -> None:
        """The reader is at step `t`: prefetch what is left of its windows, then those that follow. Returns at once."""
        own = self._own()
        order = own.order
        if order is None:
            raise ValueError("follow an order first (in each process: a fork inherits none)")
        at = [order.window_at(t, lane) for lane in own.lanes]
        if at == own.at:
            return
        needed = [order.shards_needed(t, lane) for lane in own.lanes]
        # the first shard of every lane, then the second of every lane, ...: no lane waits for another's last
        wanted = list(dict.fromkeys(_in_turn([now for now, _ in needed]) + _in_turn([then for _, then in needed])))
        with own.lock:
            own.at, own.wanted = at, wanted
            self._release()
        if own.prefetcher is None:
            own.prefetcher = Prefetcher(lambda shard: self._prepare(shard, wait=False))
        own.prefetcher.want(wanted)

    def _release(self, *but: int) -> None:
        """Downloaded shards: close all files but those that are wanted, and pin these. Nobody removes what is pinned,
        and the disk gets back only what is closed: what is open just in case would take others' room."""
        if self.cache:
            own = self._own()
            with own.lock:
                needed = {*own.wanted, *but}
                for shard in own.files.keys() - needed:
                    del own.files[shard]
                self.cache.pin(map(self._key, needed))

    def _prepare(self, shard: int, *, wait: bool) -> bool:
        """See to it that a shard is there and verified; False: there is no room, and `wait` was not asked for."""
        if self.cache:
            name = self.index.names[shard]
            return self.cache.fetch(
                self._key(shard), int(self.index.bytes[shard]), self.index.sha256[shard], self._url(shard),
                lambda path: self.folder.download(name, path), wait=wait,
            )  # fmt: skip
        self._verify_local(shard)
        return True

    def close(self) -> None:
        """Stop prefetching, close files, let go of pins. Reading again opens them again."""
        if prefetcher := self._own().prefetcher:
            prefetcher.close()
        if self.cache:
            self.cache.close()
        self._state = _ProcessState()

    # -- where -------------------------------------------------------------------------------------------------------

    def _url(self, shard: int) -> str:
        return f"{self.folder.url}/{self.index.names[shard]}"

    def _local(self, shard: int) -> Path:
        return Path(self.folder.url) / self.index.names[shard]

    def _key(self, shard: int) -> str:
        """Of a shard in the cache: its content, where that is known; two runs over the same shards share them."""
        if self.index.sha256[shard]:
            return self.index.sha256[shard]
        return sha256_of_bytes(f"{self.index.path.name} {self.index.names[shard]}".encode())

    def _check_disk(self, needed: int, cache_bytes: int | None) -> None:
        assert self.cache is not None
        room = shutil.disk_usage(self.cache_dir).free + self.cache.used()
        if needed > room:
            said = "not set, so all shards are kept" if cache_bytes is None else f"{cache_bytes:,}"
            raise ShardError(
                f"cache_bytes is {said}: {needed:,} bytes, but {self.cache_dir} has room for {room:,};"
                " set cache_bytes to less, or choose a cache on a larger disk"
            )

    def _verify_local(self, shard: int) -> None:
        path, expected = self._local(shard), self.index.sha256[shard]
        found = retrying(self._url(shard), lambda: os.stat(path)).st_size
        if found != self.index.bytes[shard]:
            raise ShardError(f"{path} has {found:,} bytes, the index {self.index.bytes[shard]:,}: it changed meanwhile")
        if expected:
            verify_once(path, expected, self.cache_dir / "verified")


def _is_header_of(header: bytes, member: str, size: int) -> bool:
    """As every packer writes it; tarfile takes ten times as long to say so, and knows all the other ways."""
    name = member.encode()
    return header.startswith(name + b"\0") and header[124:136] == b"%011o\0" % size


def _pread(descriptor: int, size: int, offset: int) -> bytes:
    data = os.pread(descriptor, size, offset)
    while len(data) < size:
        more = os.pread(descriptor, size - len(data), offset + len(data))
        if not more:
            raise OSError(f"the file ends at byte {offset + len(data)}: it was cut short while being read")
        data += more
    return data


def _in_turn(lists: list[list[int]]) -> list[int]:
    longest = max(map(len, lists), default=0)
    return [one[place] for place in range(longest) for one in lists if place < len(one)]
