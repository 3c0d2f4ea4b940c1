"""The loader: micro-batches in the run's order, with every random number that a step uses.

A micro-batch is a function of (shards, recipe, t, micro-batch, rank): workers only compute it ahead. A sample whose bytes
are broken keeps its slot with weight 0, so that order and shapes never change.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from training.data.draws import keyed_seed
from training.data.folder import CorruptSample
from training.data.micro_batch import MicroBatch
from training.data.order import Order
from training.data.packed_batch import receive_ahead, stack_rows
from training.data.sample import BrokenSample, Preparation, blank_sample, tensors_of
from training.data.shards import Shards
from training.encoder_cache.reading import EncodedShards
from training.layout import accumulation

# named when the field was called `clip`: another name would be another stream, and a resumed run another run
DROPOUT_STREAMS = {"clip_features": "drop clip"}


def normal(seed: int, stream: str, t: int, slot: int, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(shape, generator=_generator(seed, stream, t, slot))


def uniform(seed: int, stream: str, t: int, slot: int) -> float:
    return float(torch.rand((), generator=_generator(seed, stream, t, slot)))


def _generator(seed: int, stream: str, t: int, slot: int) -> torch.Generator:
    # torch takes seeds of 63 bits without a sign
    return torch.Generator().manual_seed(keyed_seed(seed, stream, t, slot) >> 1)


def slot_draws(ready: Preparation, seed: int, t: int, slot: int) -> dict[str, torch.Tensor]:
    """Every random number of one slot of one step."""
    side = ready.size // ready.latent_factor
    latent = (ready.latent_channels, side, side)
    drop = {
        name: uniform(seed, DROPOUT_STREAMS.get(name, f"drop {name}"), t, slot) < share
        for name, share in ready.dropout.model_dump().items()
    }
    face, everything = drop["face"] or drop["everything"], drop["everything"]
    high = torch.randint(0, ready.timesteps, (), generator=_generator(seed, "timestep", t, slot))
    keep = {
        "keep_text": not (drop["text"] or everything),
        "keep_identity": not (drop["identity"] or face),
        "keep_clip": not (drop["clip_features"] or face),
        "keep_pose": not drop["pose"],
    }
    return {
        "noise": normal(seed, "noise", t, slot, latent),
        "vae_noise": normal(seed, "vae", t, slot, latent),
        "offset": normal(seed, "offset", t, slot, (ready.latent_channels, 1, 1)),
        "timestep": high,
        **{name: torch.tensor(float(value)) for name, value in keep.items()},
    }


class MicroBatches(Dataset):
    """Micro-batch number k of a rank, counted from the start of the run: step k // accumulation.

    `node_lanes`: lanes of all ranks of this machine, which share a shard cache; `held_out`: (shard, position) of samples
    that are not trained on: they keep their slots with weight 0, as broken ones do.
    """

    def __init__(
        self,
        shards: Shards | EncodedShards,
        order: Order,
        ready: Preparation,
        seed: int,
        rank: int,
        world: int,
        micro: int,
        node_lanes: Sequence[int] | None = None,
        held_out: frozenset[tuple[int, int]] = frozenset(),
    ):
        self.shards, self.order, self.ready, self.seed = shards, order, ready, seed
        self.rank, self.world, self.micro, self.node_lanes = rank, world, micro, node_lanes
        self.held_out = held_out
        self.accumulation = accumulation(order.batch_size, micro, world)
        self._following: int | None = None

    def __getitem__(self, number: int) -> MicroBatch:
        t, accumulated = divmod(number, self.accumulation)
        if self._following != os.getpid():  # prefetching does not survive a fork
            self._following = os.getpid()
            self.shards.follow(self.order, self.order.lanes_of(self.rank, self.world), self.node_lanes)
        self.shards.advance(t)
        slots = self.order.slots_of(self.rank, self.world, self.micro, accumulated)
        samples = list(zip(*self.order.slots(t, slots), strict=True))
        batch = micro_batch(self.shards, self.ready, self.seed, t, slots.tolist(), samples)
        if self.held_out:
            batch.valid *= torch.tensor([float((int(one), int(place)) not in self.held_out) for one, place in samples])
        return batch


def micro_batch(
    shards: Shards | EncodedShards, ready: Preparation, seed: int, t: int, slots: list[int],
    samples: list[tuple[int, int]],
) -> MicroBatch:  # fmt: skip
    """Samples (shard, position) in their slots of step `t`."""
    rows, corrupt, ids = [], [], []
    blank = blank_sample(ready, shards.blank() if isinstance(shards, EncodedShards) else {})
    for slot, (shard, position) in zip(slots, samples, strict=True):
        ids.append(shards.index.id(int(shard), int(position)))
        drawn = slot_draws(ready, seed, t, slot)
        try:
            clip, pose = bool(drawn["keep_clip"]), bool(drawn["keep_pose"])
            row = _tensors_at(ready, shards, int(shard), int(position), clip, pose)
            row["valid"] = torch.tensor(1.0)
        except (CorruptSample, BrokenSample) as error:
            corrupt.append((ids[-1], str(error)))
            row = {"valid": torch.tensor(0.0)}
        rows.append({**blank, **row, **drawn})
    return MicroBatch(t=t, ids=ids, corrupt=corrupt, **stack_rows(rows))


def _tensors_at(
    ready: Preparation, shards: Shards | EncodedShards, shard: int, position: int, clip: bool, pose: bool
) -> dict[str, torch.Tensor]:
    """A sample's tensors; without those of CLIP or pose where `clip` or `pose` says that they are dropped."""
    if not isinstance(shards, EncodedShards):
        return tensors_of(ready, shards.read(shard, position), clip, pose)
    if shards.is_hole(shard, position):
        tensors_of(ready, shards.source.read(shard, position))  # says what is wrong with it
        raise BrokenSample(
            "it could not be used when it was cached, and now it can: remove the encoder cache and make it again"
        )
    return tensors_of(ready, shards.read(shard, position, clip), clip, pose)


def loader(
    batches: MicroBatches, start: int, stop: int, workers: int, prefetch: int, pin: bool
) -> Iterator[MicroBatch]:
    """Micro-batches `start` to `stop` in order. With workers: forked, one torch thread each."""
    options: dict[str, Any] = {}
    if workers:
        options = {"prefetch_factor": prefetch, "multiprocessing_context": "fork", "worker_init_fn": _worker}
    sampler = range(start, stop)
    received = iter(
        DataLoader(batches, sampler=sampler, batch_size=None, num_workers=workers, pin_memory=pin, **options)
    )
    # pinning has a thread of its own that receives
    return receive_ahead(received) if workers and not pin else received


def _worker(_: int) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(0)  # OpenCV would start a thread a core in every worker
    # torchrun, Slurm and a terminal signal whole groups: a worker that dies of it takes its rank along, unsaved
    os.setpgid(0, 0)
