"""Shards of a few samples each, to be read from anywhere, and what each sample of them must be."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

from tests.training.made.shards import make_shards, sample
from training.data.shards import Shards

COUNTS = [4, 1, 3, 5, 2, 4, 3, 4]
STARTS = [sum(COUNTS[:shard]) for shard in range(len(COUNTS))]
FORK = multiprocessing.get_context("fork")


def small_shards(folder: Path) -> Path:
    return make_shards(folder, COUNTS, side=32)


def expected(shard: int, position: int) -> dict[str, bytes]:
    return dict(sample(STARTS[shard] + position, side=32)[1])


def all_read(shards: Shards) -> None:
    for shard, count in enumerate(COUNTS):
        for position in range(count):
            assert shards.read(shard, position) == expected(shard, position)


def until(what, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.01)


def held(cache: Path) -> int:
    return sum(path.stat().st_size for path in cache.glob("shards/*"))
