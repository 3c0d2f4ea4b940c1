"""Threads that make shards ready before anybody asks for them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable

from training.data.folder import ShardError

log = logging.getLogger(__name__)

THREADS = 2  # one downloads while the other hashes
PAUSE = 1.0  # seconds until what could not be had is tried again


class Prefetcher:
    """Calls `prepare(shard)` for what is wanted, in that order, each once.

    Args:
        prepare: makes a shard ready, or returns False: not now (no room, or another process is at it). A
            ShardError is logged and no more: whoever reads the shard tries again, and raises.
    """

    def __init__(self, prepare: Callable[[int], bool]):
        self._prepare = prepare
        self._changed = threading.Condition()
        self._wanted: list[int] = []
        self._taken: set[int] = set()
        self._later: set[int] = set()
        self._closed = False
        self._threads = [threading.Thread(target=self._work, name=f"prefetch-{n}", daemon=True) for n in range(THREADS)]
        for thread in self._threads:
            thread.start()

    def want(self, shards: Iterable[int]) -> None:
        """From now on these, in this order; what is under way is finished."""
        with self._changed:
            self._wanted = list(shards)
            self._taken &= set(self._wanted)
            self._later.clear()
            self._changed.notify_all()

    def close(self) -> None:
        """Returns when nothing is under way any more, or after a few seconds: a download cannot be broken off."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout=5)

    def _next(self) -> int | None:
        """Blocks until there is one; None: closed."""
        with self._changed:
            while not self._closed:
                free = [shard for shard in self._wanted if shard not in self._taken]
                for shard in free:
                    if shard not in self._later:
                        self._taken.add(shard)
                        return shard
                self._changed.wait(PAUSE if free else None)
                self._later.clear()
            return None

    def _work(self) -> None:
        while (shard := self._next()) is not None:
            try:
                ready = self._prepare(shard)
            except ShardError as error:
                log.warning("not brought ahead: %s", error)
                continue
            if not ready:
                with self._changed:
                    self._taken.discard(shard)
                    self._later.add(shard)
