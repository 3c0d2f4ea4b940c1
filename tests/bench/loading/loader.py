"""The loader beside others that read the same samples: rates a core, waiting, and what it takes to go on anywhere."""

from __future__ import annotations

import os
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import webdataset as wds
from torch.utils.data import DataLoader

from tests.bench.duel import Bench, core_seconds, duel
from training.batches import MicroBatches, loader
from training.data.index import ShardIndex, read_index
from training.data.micro_batch import MicroBatch
from training.data.order import Order
from training.data.sample import Preparation, tensors_of
from training.data.shards import Shards

WINDOW, ENDLESS = 4, 10**9
BUFFER = 1000  # samples
TURN, TURNS = 4, 5  # batches of a turn, turns of a round


@dataclass(frozen=True)
class Input:
    """Shards of made pictures, what turns a sample into tensors, and samples of a micro-batch."""

    folder: Path
    cache: Path
    ready: Preparation
    micro: int

    def index(self) -> ShardIndex:
        return read_index(self.folder, str(self.cache))

    def tars(self) -> list[str]:
        return sorted(map(str, self.folder.glob("*.tar")))


class Ours:
    """The trainer's loader, an epoch a call: exact shuffle, random access, every random number keyed."""

    def __init__(self, given: Input, workers: int):
        self.shards = Shards(given.index(), given.cache)
        order = Order(self.shards.index.counts, seed=0, lanes=1, batch=given.micro, window=WINDOW)
        self.batches = MicroBatches(self.shards, order, given.ready, 0, 0, 1, given.micro)
        self.workers, self.epochs, self.length = workers, 0, order.steps_per_epoch

    def endless(self) -> Iterator[object]:
        return loader(self.batches, 0, ENDLESS, 0, prefetch=4, pin=False)

    def __call__(self) -> None:
        begin = self.epochs * self.length
        self.epochs += 1
        feed = loader(self.batches, begin, begin + self.length, self.workers, prefetch=4, pin=False)
        assert sum(1 for _ in feed) == self.length


def usual_draws(ready: Preparation) -> dict[str, torch.Tensor]:
    """The random numbers of a slot as most trainers draw them: from whatever the global generator has."""
    side = ready.size // ready.latent_factor
    latent = (ready.latent_channels, side, side)
    keep = {f"keep_{name}": (torch.rand(()) < 0.95).float() for name in ("text", "identity", "clip", "pose")}
    return {
        "noise": torch.randn(latent),
        "vae_noise": torch.randn(latent),
        "offset": torch.randn(ready.latent_channels, 1, 1),
        "timestep": torch.randint(0, ready.timesteps, ()),
        "valid": torch.tensor(1.0),
        **keep,
    }


class Prepared:
    """A sample of {extension: bytes} -> all that the trainer's loader makes of it. Pickles, for workers elsewhere."""

    def __init__(self, ready: Preparation):
        self.ready = ready

    def __call__(self, members: dict[str, bytes]) -> dict[str, torch.Tensor]:
        return {**tensors_of(self.ready, members), **usual_draws(self.ready)}


def stacked(rows: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """webdataset puts its keys beside the tensors."""
    names = [name for name, value in rows[0].items() if isinstance(value, torch.Tensor)]
    return {name: torch.stack([row[name] for row in rows]) for name in names}


class Webdataset:
    """webdataset on the same tars, as its users write it: shards shuffled, then a buffer of 1,000 samples."""

    def __init__(self, given: Input, workers: int):
        self.given, self.workers, self.data = given, workers, self._pipeline(given, given.tars())
        self.options = {"prefetch_factor": 4, "multiprocessing_context": "fork"} if workers else {}

    @staticmethod
    def _pipeline(given: Input, tars: list[str], initial: int = 100) -> wds.WebDataset:
        shuffled = wds.WebDataset(tars, shardshuffle=len(tars), seed=0, empty_check=False).shuffle(
            BUFFER, initial=initial
        )
        return shuffled.map(Prepared(given.ready)).batched(given.micro, collation_fn=stacked)

    def endless(self) -> Iterator[object]:
        """In one long epoch with a buffer that is full: in a short one it reads at the beginning and then no more."""
        return iter(DataLoader(self._pipeline(self.given, self.given.tars() * 100, BUFFER), batch_size=None))

    def __call__(self) -> None:
        feed = DataLoader(self.data, batch_size=None, num_workers=self.workers, **self.options)
        assert sum(1 for _ in feed)


def bench_loader(bench: Bench, given: Input, rounds: int, workers: tuple[int, ...] = (0, 2)) -> None:
    """Without workers both take turns every few batches; workers' core seconds are known when they end, so by epochs."""
    for count in workers:
        ours, theirs = Ours(given, count), Webdataset(given, count)
        if count:
            samples, times = given.index().samples, duel(ours, theirs, rounds, core_seconds)
        else:
            mine, others = ours.endless(), theirs.endless()
            samples = TURN * given.micro
            times = duel(lambda: _drain(mine, TURN), lambda: _drain(others, TURN), TURNS * rounds, core_seconds)  # noqa: B023
        what = f"loader, exact shuffle, {count or 'no'} workers"
        bench.rate(what, f"webdataset, buffer of {BUFFER:,}", samples, "samples", times, least=1.0, per="core s")


def bench_reading(bench: Bench, given: Input, rounds: int) -> None:
    """Bytes only: what random access costs beside reading in order, and beside the system call that it stands on."""
    shards = Shards(given.index(), given.cache)
    index = shards.index
    places = [(shard, position) for shard, count in enumerate(index.counts) for position in range(count)]
    shuffled = [places[n] for n in np.random.default_rng(0).permutation(len(places))]
    ranges = []
    for shard, position in shuffled:
        members = index.members(shard, position).values()
        low = min(offset for offset, _ in members) - tarfile.BLOCKSIZE
        ranges.append((shard, low, max(offset + size for offset, size in members) - low))

    def ours() -> None:
        for shard, position in shuffled:
            shards.read(shard, position)

    def in_order() -> None:
        for path in given.tars():
            with tarfile.open(path) as tar:
                for member in tar:
                    tar.extractfile(member).read()

    def streamed() -> None:
        for _ in wds.WebDataset(given.tars(), shardshuffle=False):
            pass

    descriptors = [os.open(path, os.O_RDONLY) for path in given.tars()]

    def limit() -> None:
        for shard, low, size in ranges:
            os.pread(descriptors[shard], size, low)

    for beside, theirs in (("tarfile, in order", in_order), ("webdataset, in order", streamed), ("os.pread", limit)):
        least = None if theirs is limit else 1.0
        times = duel(ours, theirs, rounds, core_seconds)
        bench.rate("read a sample, random order", beside, len(places), "samples", times, least, "core s")
    for descriptor in descriptors:
        os.close(descriptor)


class Paced(MicroBatches):
    """Each takes as long as it is told: what a busy neighbour takes of the cores does not change the rate."""

    pace = 0.0  # seconds

    def __getitem__(self, number: int) -> MicroBatch:
        started = time.perf_counter()
        made = super().__getitem__(number)
        time.sleep(max(0.0, started + self.pace - time.perf_counter()))
        return made


def bench_waiting(bench: Bench, given: Input, steps: int, workers: int = 2, blocks: int = 8) -> None:
    """The trainer's loader, 1.2 times faster than a step that sleeps: the share of the time that the step waits.

    Once as fast as it is, and once paced by the clock. Rate and waiting are measured in turn and the median block counts,
    since a neighbour may come and go; a step that waits for the loader to fill up after its rate was measured does not.
    """
    shards = Shards(given.index(), given.cache)
    order = Order(shards.index.counts, seed=0, lanes=1, batch=given.micro, window=WINDOW)
    paced = Paced(shards, order, given.ready, 0, 0, 1, given.micro)
    prefetch, each = 4, max(1, steps // blocks)
    for name, factor in (("", 0.0), (", paced", 2.0)):
        started = time.perf_counter()
        paced.pace = 0.0
        for number in range(8):
            paced[number]
        paced.pace = factor * (time.perf_counter() - started) / 8
        feed = loader(paced, 0, ENDLESS, workers, prefetch, pin=False)
        shares, waits, whole = [], [], []
        for _ in range(blocks):
            _drain(feed, prefetch * workers + 1)  # what was made ahead says nothing about the rate
            step = 1.2 * _drain(feed, 24) / 24
            for number in range(-10, each):
                before = time.perf_counter()
                next(feed)
                waited = time.perf_counter() - before
                time.sleep(step)
                if number >= 0:
                    waits.append(waited)
                    whole.append(time.perf_counter() - before)
            shares.append(sum(waits[-each:]) / sum(whole[-each:]))
        del feed
        share, worst = float(np.median(shares)), float(np.quantile(waits, 0.99) / np.median(whole))
        bench.row(
            f"data wait, {len(waits)} steps of sleep", f"{sum(waits) * 1000:.0f} ms, p99 {worst:.1%} of a step",
            f"the steps, loader 1.2 x as fast{name}", f"{sum(whole):.0f} s", share, most=0.01,
            shown=f"{share:.2%} ({min(shares):.2%} to {max(shares):.2%})",
        )  # fmt: skip


def _drain(feed: Iterator, count: int) -> float:
    started = time.perf_counter()
    for _ in range(count):
        next(feed)
    return time.perf_counter() - started


def bench_seeking(bench: Bench, shards: int = 1000, samples: int = 1000, rounds: int = 5) -> None:
    """Where is slot 0 of a step in mid-epoch, for a process that has just begun?"""
    counts, batch = np.full(shards, samples), 256
    middle = shards * samples // batch // 2

    def first_of(t: int) -> None:
        Order(counts, seed=0, lanes=8, batch=batch, window=8).slots(t, np.arange(batch))

    times = duel(lambda: first_of(middle), lambda: first_of(0), rounds)
    what = f"find step {middle:,} of {counts.sum() / 1e6:g}M samples, cold"
    bench.row(what, f"{times[0] * 1000:.1f} ms", "step 0", f"{times[1] * 1000:.1f} ms", times[0] / times[1])
    bench.absent(what, "webdataset", "none: it begins at a shard's start, and reads on from there")
