"""Bytes of samples -> tensors, in loader workers; with every random number that the step will use.

A micro-batch is a function of (shards, recipe, t, micro-batch, rank): workers only compute it ahead. A sample whose bytes
are broken keeps its slot with weight 0, so that order and shapes never change.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from transformers import CLIPImageProcessor, CLIPTokenizer

from common.decode import ImageLimits, Undecodable, decode
from model.conditioning.faces import Face
from model.conditioning.features import clip_pixels
from model.conditioning.views import clip_view, crop_around, pose_view
from model.config import Conditions
from training.data.draws import keyed_seed
from training.data.folder import CorruptSample
from training.data.order import Order
from training.data.packed_batch import received, reduced, stacked
from training.data.shards import Shards
from training.encoder_cache.reading import KINDS, EncodedShards
from training.layout import accumulation
from training.recipe import ConditionDropout

# named when the field was called `clip`: another name would be another stream, and a resumed run another run
DROPOUT_STREAMS = {"clip_features": "drop clip"}


@dataclass
class MicroBatch:
    """B samples of step `t`, on the CPU.

    `image` (B, 3, H, W) in -1..1; `pose_map` (B, 3, H, W) in 0..1; `clip_pixels` (B, 3, S, S); `identity` (B, D);
    where they are cached, in the place of `image` its `moments` (B, 8, H/8, W/8), means and standard deviations, and in
    that of `clip_pixels` `clip_states` (B, 1 + patches, C);
    `input_ids` (B, 77); `noise`, `vae_noise` (B, 4, H/8, W/8) and `offset` (B, 4, 1, 1) standard normal; `timestep` (B,);
    `keep_text`, `keep_identity`, `keep_clip`, `keep_pose`, `valid` (B,) of 0 and 1. `corrupt`: (id, why).
    """

    t: int
    ids: list[str]
    pose_map: torch.Tensor
    identity: torch.Tensor
    input_ids: torch.Tensor
    noise: torch.Tensor
    vae_noise: torch.Tensor
    offset: torch.Tensor
    timestep: torch.Tensor
    keep_text: torch.Tensor
    keep_identity: torch.Tensor
    keep_clip: torch.Tensor
    keep_pose: torch.Tensor
    valid: torch.Tensor
    image: torch.Tensor | None = None
    clip_pixels: torch.Tensor | None = None
    moments: torch.Tensor | None = None
    clip_states: torch.Tensor | None = None
    corrupt: list[tuple[str, str]] = field(default_factory=list)

    def __reduce__(self):
        return reduced(MicroBatch, vars(self))

    def tensors(self) -> dict[str, torch.Tensor]:
        return {name: value for name, value in vars(self).items() if isinstance(value, torch.Tensor)}

    def to(self, device: torch.device | str) -> MicroBatch:
        moved = {name: value.to(device, non_blocking=True) for name, value in self.tensors().items()}
        return MicroBatch(**{**vars(self), **moved})

    def pin_memory(self) -> MicroBatch:
        """Called by torch's loader."""
        return MicroBatch(**{**vars(self), **{name: value.pin_memory() for name, value in self.tensors().items()}})


@dataclass(frozen=True)
class Preparation:
    """What turns a sample into tensors. `how`: the model's conditions; `size`: pixels; `timesteps`: of the schedule."""

    how: Conditions
    size: int
    identity_dim: int
    tokenizer: CLIPTokenizer
    processor: CLIPImageProcessor
    dropout: ConditionDropout
    timesteps: int = 1000
    latent_channels: int = 4
    latent_factor: int = 8


def normal(seed: int, stream: str, t: int, slot: int, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(shape, generator=_generator(seed, stream, t, slot))


def uniform(seed: int, stream: str, t: int, slot: int) -> float:
    return float(torch.rand((), generator=_generator(seed, stream, t, slot)))


def _generator(seed: int, stream: str, t: int, slot: int) -> torch.Generator:
    # torch takes seeds of 63 bits without a sign
    return torch.Generator().manual_seed(keyed_seed(seed, stream, t, slot) >> 1)


def draws(ready: Preparation, seed: int, t: int, slot: int) -> dict[str, torch.Tensor]:
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


class BrokenSample(ValueError):
    """The bytes of a sample cannot be used."""


def tensors_of(
    ready: Preparation, members: dict[str, bytes], clip: bool = True, pose: bool = True
) -> dict[str, torch.Tensor]:
    """One sample's tensors, without randomness. With "vae.npy" or "clip.npy" among its members (training/encoder_cache/reading.py)
    what they stand for is not made; the picture is decoded only for what is left.

    `clip`, `pose`: False: nobody will look at its CLIP features, its pose map, and there is none.

    Raises:
        BrokenSample: what is wrong with its bytes.
    """
    try:
        facts = json.loads(members["json"])
        identity = np.load(io.BytesIO(members["identity.npy"]), allow_pickle=False)
        if identity.shape != (ready.identity_dim,) or not np.isfinite(identity).all():
            raise BrokenSample(f"identity of shape {identity.shape}, or not finite")
        face = Face(facts["face_box"], np.reshape(facts["face_landmarks"], (5, 2)), facts["face_score"], identity)
        made = _pictures(ready, members, facts, face, clip, pose)
        caption = members["txt"].decode()
    except (Undecodable, ValueError, KeyError, TypeError, EOFError) as error:
        raise BrokenSample(f"{type(error).__name__}: {error}") from error
    ids = ready.tokenizer(caption, padding="max_length", truncation=True, max_length=ready.tokenizer.model_max_length)
    return {
        **made,
        "identity": torch.from_numpy(identity.astype(np.float32)),
        "input_ids": torch.tensor(ids.input_ids),
    }


def _pictures(
    ready: Preparation, members: dict[str, bytes], facts: dict[str, Any], face: Face, clip: bool, pose: bool
) -> dict[str, torch.Tensor]:
    """What the picture gives, or what was made of it before."""
    how, made = ready.how.model_dump(), {}
    cached = {kind: np.load(io.BytesIO(members[f"{kind}.npy"])) for kind in KINDS if f"{kind}.npy" in members}
    clip = clip and "clip" not in cached
    if "vae" in cached and not clip:
        crop = crop_around(face, how, facts["width"], facts["height"])
    else:
        rgb = decode(members["jpg"], ImageLimits(), full_size=True).rgb
        height, width = rgb.shape[:2]
        crop = crop_around(face, how, width, height)
        image = crop.image(rgb, ready.size) if "vae" not in cached or how["clip_view"] == "crop" else None
        if "vae" not in cached:
            made["image"] = _planes(image).mul_(2).sub_(1)
        if clip:
            made["clip_pixels"] = clip_pixels(ready.processor, [clip_view(rgb, face, how, image)])[0]
    if pose:
        made["pose_map"] = _planes(pose_view(face, crop, how, ready.size))
    return made | {KINDS[kind].field: torch.from_numpy(value) for kind, value in cached.items()}


def nothing(ready: Preparation, shards: Shards | EncodedShards) -> dict[str, torch.Tensor]:
    """What stands in a slot whose sample is broken."""
    side = ready.processor.crop_size["height"]
    cached = shards.blank() if isinstance(shards, EncodedShards) else {}
    blank = {
        "pose_map": _zeros(3, ready.size, ready.size),
        "identity": _zeros(ready.identity_dim),
        "input_ids": torch.full((ready.tokenizer.model_max_length,), ready.tokenizer.eos_token_id),
        **cached,
    }
    if "moments" not in cached:
        blank["image"] = _zeros(3, ready.size, ready.size)
    if "clip_states" not in cached:
        blank["clip_pixels"] = _zeros(3, side, side)
    return blank


def _zeros(*shape: int) -> torch.Tensor:
    # a view of one number: it is asked for with every micro-batch, and stacked only where a slot needs it
    return torch.zeros(()).expand(shape)


def _planes(rgb: np.ndarray) -> torch.Tensor:
    # in place: a fresh tensor of this size costs more than the arithmetic
    return torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1))).float().div_(255)


class MicroBatches(Dataset):
    """Micro-batch number k of a rank, counted from the start of the run: step k // accumulation.

    `node_lanes`: lanes of all ranks of this machine, which share a cache.
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
    ):
        self.shards, self.order, self.ready, self.seed = shards, order, ready, seed
        self.rank, self.world, self.micro, self.node_lanes = rank, world, micro, node_lanes
        self.accumulation = accumulation(order.batch_size, micro, world)
        self._following: int | None = None

    def __getitem__(self, number: int) -> MicroBatch:
        t, accumulated = divmod(number, self.accumulation)
        if self._following != os.getpid():  # what brings shards ahead does not survive a fork
            self._following = os.getpid()
            self.shards.follow(self.order, self.order.lanes_of(self.rank, self.world), self.node_lanes)
        self.shards.advance(t)
        slots = self.order.slots_of(self.rank, self.world, self.micro, accumulated)
        samples = list(zip(*self.order.slots(t, slots), strict=True))
        return micro_batch(self.shards, self.ready, self.seed, t, slots.tolist(), samples)


def micro_batch(
    shards: Shards | EncodedShards, ready: Preparation, seed: int, t: int, slots: list[int],
    samples: list[tuple[int, int]],
) -> MicroBatch:  # fmt: skip
    """Samples (shard, position) in their slots of step `t`."""
    rows, corrupt, ids, blank = [], [], [], nothing(ready, shards)
    for slot, (shard, position) in zip(slots, samples, strict=True):
        ids.append(shards.index.id(int(shard), int(position)))
        drawn = draws(ready, seed, t, slot)
        try:
            clip, pose = bool(drawn["keep_clip"]), bool(drawn["keep_pose"])
            made = _made(ready, shards, int(shard), int(position), clip, pose)
            row = made | {"valid": torch.tensor(1.0)}
        except (CorruptSample, BrokenSample) as error:
            corrupt.append((ids[-1], str(error)))
            row = {"valid": torch.tensor(0.0)}
        rows.append({**blank, **row, **drawn})
    return MicroBatch(t=t, ids=ids, corrupt=corrupt, **stacked(rows))


def _made(
    ready: Preparation, shards: Shards | EncodedShards, shard: int, position: int, clip: bool, pose: bool
) -> dict[str, torch.Tensor]:
    """A sample's tensors, but for CLIP's and the pose's where `clip` and `pose` say that nobody looks at them."""
    if not isinstance(shards, EncodedShards):
        return tensors_of(ready, shards.read(shard, position), clip, pose)
    if shards.is_hole(shard, position):
        tensors_of(ready, shards.source.read(shard, position))  # says what is wrong with it
        raise BrokenSample("it could not be used when it was cached, and now it can: remove the cache, make it again")
    return tensors_of(ready, shards.read(shard, position, clip), clip, pose)


def loader(
    batches: MicroBatches, start: int, stop: int, workers: int, prefetch: int, pin: bool
) -> Iterator[MicroBatch]:
    """Micro-batches `start` to `stop` in order. With workers: forked, one torch thread each."""
    options: dict[str, Any] = {}
    if workers:
        options = {"prefetch_factor": prefetch, "multiprocessing_context": "fork", "worker_init_fn": _worker}
    made = iter(
        DataLoader(
            batches, sampler=range(start, stop), batch_size=None, num_workers=workers, pin_memory=pin,
            collate_fn=_as_it_is, **options,
        )
    )  # fmt: skip
    # pinning has a thread of its own that receives
    return received(made) if workers and not pin else made


def _as_it_is(batch: MicroBatch) -> MicroBatch:
    return batch


def _worker(_: int) -> None:
    torch.set_num_threads(1)
    # torchrun, Slurm and a terminal signal whole groups: a worker that dies of it takes its rank along, unsaved
    os.setpgid(0, 0)
