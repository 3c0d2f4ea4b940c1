"""Reads the encoder cache: what the frozen encoders computed from each sample, in shards beside the shards.

    SHARDS/cached/NAME-KEY/cached.json     what KEY stands for, written first
    SHARDS/cached/NAME-KEY/NNNNN.tar       the samples of SHARDS/NNNNN.tar in their order, ID.vae.npy or ID.clip.npy each
    SHARDS/cached/NAME-KEY/NNNNN.json      its sidecar, written last; `source`: sha256 of the shard that it was made from

A sample that cannot be used is a hole. training/encoder_cache/writing.py writes them, on_ray.py on many machines.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

from common.decode import DECODE_VERSION
from common.hashing import sha256_of_bytes
from model.config import ModelConfig
from training.data.encodings import KINDS
from training.data.folder import Folder, ShardError, cache_dir
from training.data.index import ShardIndex, read_index
from training.data.order import Order
from training.data.shards import Shards

FORMAT = 1
STORED = {"fp32": np.float32, "fp16": np.float16}  # where there are both, the exact one is read
# what the same weights compute also hangs on these
ARCHITECTURE = {
    "vae": ("act_fn", "norm_num_groups", "down_block_types", "layers_per_block", "block_out_channels"),
    "clip": ("hidden_act", "num_attention_heads", "num_hidden_layers", "patch_size", "image_size", "layer_norm_eps"),
}
PROCESSOR = (
    "do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale", "rescale_factor", "do_normalize",
    "image_mean", "image_std",
)  # fmt: skip


class CacheUnusable(Exception):
    """An encoder cache cannot be used; the message says why. `absent`: none has been begun."""

    def __init__(self, message: str, absent: bool = False):
        super().__init__(message)
        self.absent = absent


@dataclass(frozen=True)
class FrozenEncoders:
    """What cached values are computed with. The encoders are in fp32: a cache's key names their weights before any cast."""

    config: ModelConfig
    vae: AutoencoderKL
    image_encoder: CLIPVisionModelWithProjection
    processor: CLIPImageProcessor

    def facts(self, kind: str, computed: str) -> dict[str, Any]:
        """Everything that a value of this kind is a function of, but the sample and how it is stored.

        `computed`: the dtype that the encoder computes in. The resolution counts for CLIP only where it is shown the
        crop: features that took days survive a change of resolution.
        """
        how = self.config.conditions
        view: dict[str, Any] = {"decode": DECODE_VERSION, "crop": how.crop, "crop_factor": how.crop_factor}
        if kind == "clip":
            prepared = self.processor.to_dict()
            view |= {"clip_view": how.clip_view, "align_size": how.align_size}
            view["processor"] = {name: prepared[name] for name in PROCESSOR}
        if kind == "vae" or how.clip_view == "crop":
            view["resolution"] = self.config.resolution
        part = self.vae if kind == "vae" else self.image_encoder
        return {
            "format": FORMAT,
            "kind": kind,
            "weights": weights_hash(self._weights(kind)),
            "architecture": {name: part.config[name] if kind == "vae" else getattr(part.config, name)
                             for name in ARCHITECTURE[kind]},
            "view": view,
            "flip": "none",  # the trainer does not
            "computed": computed,
        }  # fmt: skip

    def shape(self, kind: str) -> tuple[int, ...]:
        """The shape of one sample's value: (2 C, h, w), means and standard deviations; or (1 + patches, C)."""
        if kind == "vae":
            side = self.config.resolution // 2 ** (len(self.vae.config.block_out_channels) - 1)
            return 2 * self.vae.config.latent_channels, side, side
        vision = self.image_encoder.config
        return 1 + (vision.image_size // vision.patch_size) ** 2, vision.hidden_size

    def _weights(self, kind: str) -> dict[str, torch.Tensor]:
        if kind == "clip":
            return self.image_encoder.state_dict()
        return {k: v for k, v in self.vae.state_dict().items() if k.startswith(("encoder.", "quant_conv."))}


def weights_hash(state: Mapping[str, torch.Tensor]) -> str:
    """sha256 of names and values, in the order of the names."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(name.encode())
        digest.update(value.contiguous().view(-1).view(torch.uint8).cpu().numpy())
    return digest.hexdigest()


def folder_name(facts: Mapping[str, Any], stored: str) -> str:
    """NAME-KEY."""
    text = json.dumps({**facts, "stored": stored}, sort_keys=True, separators=(",", ":"))
    return f"{facts['kind']}-{sha256_of_bytes(text.encode())[:16]}"


def source_of(index: ShardIndex, shard: int) -> str:
    """What a cached shard names as its source: the sha256 of its tar, or of what is known of it."""
    if index.sha256[shard]:
        return index.sha256[shard]
    known = "\n".join([str(index.bytes[shard]), *index.ids(shard)])
    return sha256_of_bytes(known.encode())


def open_encoder_cache(index: ShardIndex, name: str, cache: str | None) -> ShardIndex:
    """The index of what was computed from all shards of `index`, in SHARDS/cached/`name`.

    Raises:
        CacheUnusable: it is not there, not whole, or a shard has changed since, with its name.
    """
    folder = f"{index.url}/cached/{name}"
    try:
        Folder(folder).read("cached.json")
    except ShardError as error:
        raise CacheUnusable(f"there is no {folder}", absent=True) from error
    try:
        cached = read_index(folder, cache)
    except ShardError as error:
        raise CacheUnusable(f"it is not whole: {error}") from error
    if missing := sorted(set(index.names) - set(cached.names)):
        raise CacheUnusable(f"{folder} is not whole: {missing[0]} and {len(missing) - 1} more shards are missing")
    stale = [
        name
        for shard, name in enumerate(index.names)
        if cached.names[shard] != name
        or cached.sources[shard] != source_of(index, shard)
        or cached.revisions[shard] != index.revisions[shard]
        or cached.counts[shard] != index.counts[shard]
    ]
    if stale:
        more = f" and {len(stale) - 1} more shards" if len(stale) > 1 else ""
        raise CacheUnusable(f"{index.url}/{stale[0]}{more} changed since {folder} was made")
    return cached


class EncodedShards:
    """Shards and their encoder cache, read as one sample. Used where `Shards` is.

    Args:
        source: the shards themselves.
        cached: {kind: the shards of its values}.
        blanks: {kind: (shape, stored dtype) of a value}.
    """

    def __init__(self, source: Shards, cached: Mapping[str, Shards], blanks: Mapping[str, tuple[tuple[int, ...], str]]):
        self.source, self.cached, self.blanks = source, dict(cached), dict(blanks)

    @classmethod
    def beside(
        cls,
        index: ShardIndex,
        opened: Mapping[str, tuple[ShardIndex, str]],
        shapes: Mapping[str, tuple[int, ...]],
        cache: str | None,
        cache_bytes: int | None,
    ) -> EncodedShards:
        """Readers of the shards and of `opened`, {kind: (index, stored dtype)}, that share `cache_bytes` by their sizes."""
        total = sum(int(each.bytes.sum()) for each in (index, *(each for each, _ in opened.values())))

        def reader(each: ShardIndex, kept: str | Path | None) -> Shards:
            share = None if cache_bytes is None else int(cache_bytes * int(each.bytes.sum()) / total)
            return Shards(each, kept, share)

        # folders of their own, or one's bound would evict the other's
        own = cache_dir(cache) / "cached"
        cached = {kind: reader(each, own / kind) for kind, (each, _) in opened.items()}
        return cls(reader(index, cache), cached, {kind: (shapes[kind], stored) for kind, (_, stored) in opened.items()})

    def blank(self) -> dict[str, torch.Tensor]:
        """{field of a micro-batch: zeros} of one sample."""
        return {
            KINDS[kind].field: torch.from_numpy(np.zeros(shape, STORED[stored]))
            for kind, (shape, stored) in self.blanks.items()
        }

    @property
    def index(self) -> ShardIndex:
        return self.source.index

    def read(self, shard: int, position: int, clip: bool) -> dict[str, bytes]:
        """{extension: bytes}: "vae.npy" and "clip.npy" where they are cached, the picture only if it is needed.

        `clip`: whether anybody will look at the sample's CLIP features.

        Raises:
            CorruptSample, ShardError: as `Shards.read`.
        """
        wanted = [kind for kind in self.cached if clip or kind != "clip"]
        members = {}
        for kind in wanted:
            members |= self.cached[kind].read(shard, position)
        if "vae" in self.cached and (not clip or "clip" in self.cached):
            extensions = [name for name in self.index.extensions if name != "jpg"]
            return self.source.read(shard, position, extensions) | members
        return self.source.read(shard, position) | members

    def is_hole(self, shard: int, position: int) -> bool:
        """Is the sample missing in the encoder cache, since it could not be used when that was computed?"""
        return any(not shards.index.members(shard, position) for shards in self.cached.values())

    def follow(self, order: Order, lanes: Iterable[int], node_lanes: Iterable[int] | None = None) -> None:
        for shards in self._all():
            shards.follow(order, lanes, node_lanes)

    def advance(self, t: int) -> None:
        for shards in self._all():
            shards.advance(t)

    def close(self) -> None:
        for shards in self._all():
            shards.close()

    def _all(self) -> tuple[Shards, ...]:
        return self.source, *self.cached.values()
