"""Writes the encoder cache: of each shard a shard of what the frozen encoders compute from its samples, whole or not at all."""

from __future__ import annotations

import io
import json
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.decode import sniff
from common.decode.header import read_header
from common.shard_format import Sidecar, TarWriter, publish_shard
from common.storage import Storage
from model.build import base_parts, pretrained_encoders
from model.conditioning.features import clip_features
from model.config import load_config
from model.dtypes import torch_dtype
from training.data.folder import CorruptSample, Folder, ShardError
from training.data.index import ShardIndex
from training.data.sample import BrokenSample, Preparation, tensors_of
from training.data.shards import Shards
from training.encoder_cache.reading import STORED, FrozenEncoders, folder_name, source_of
from training.encoders import vae_moments
from training.recipe import TrainRecipe

BATCHES_AHEAD = 4  # batches that are decoded while one is encoded


@dataclass
class MissingShards:
    """What is to be encoded of one kind. `name`: of its folder; `facts`: what cached.json says; `todo`: numbers of shards."""

    kind: str
    name: str
    facts: dict[str, Any]
    todo: list[int]


def missing_shards(encoders: FrozenEncoders, kind: str, stored: str, computed: str, index: ShardIndex) -> MissingShards:
    """Which shards are missing or stale: without a sidecar that names this source, or without all its bytes."""
    facts = encoders.facts(kind, computed)
    name = folder_name(facts, stored)
    folder = Folder(f"{index.url}/cached/{name}")
    try:
        files = folder.files()
    except ShardError:
        files = {}
    sidecars = {f"{tar[:-4]}.json": shard for shard, tar in enumerate(index.names)}
    there = [sidecar for sidecar in sidecars if sidecar in files and f"{sidecar[:-5]}.tar" in files]
    todo = set(range(len(index)))
    for sidecar, text in folder.read_many(there):
        shard, written = sidecars[sidecar], Sidecar.model_validate_json(text)
        whole = files[f"{sidecar[:-5]}.tar"].size in (None, written.bytes)
        if whole and (written.source, written.revision) == (source_of(index, shard), int(index.revisions[shard])):
            todo.discard(shard)
    described = {**facts, "stored": stored, "shape": encoders.shape(kind)}
    return MissingShards(kind, name, described, sorted(todo))


class ShardEncoder:
    """Encodes whole shards; holds the encoders on one device.

    Args:
        recipe: of the training that will read it.
        stored: dtype of the values, a key of `STORED`.
        threads: that decode; the encoders have the calling one.
    """

    def __init__(self, recipe: TrainRecipe, stored: str, device: torch.device, threads: int = 1):
        self.encoders, self.ready = open_encoders(recipe)
        self.stored, self.device, self.threads, self.batch = stored, device, threads, recipe.batch.micro
        for part in (self.encoders.vae, self.encoders.image_encoder):
            part.requires_grad_(False)
            if part.device != device or part.dtype != torch_dtype(recipe.engine.dtype):
                part.to(device, torch_dtype(recipe.engine.dtype))
        if recipe.engine.channels_last:
            self.encoders.vae.to(memory_format=torch.channels_last)

    def write(self, shards: Shards, shard: int, names: Mapping[str, str], folders: Mapping[str, Storage]) -> int:
        """Encode a shard and write the shard of its values, for each kind in `names`.

        Args:
            names: {kind: name of its folder, NAME-KEY}.
            folders: {kind: where to write}.

        Returns:
            How many samples cannot be used: holes in the encoder cache.

        Raises:
            ShardError: the shard cannot be had, a record contradicts its picture, or a value is too large to be stored.
        """
        index, holes = shards.index, 0
        with tempfile.TemporaryDirectory() as scratch, ExitStack() as files:
            paths = {kind: Path(scratch) / f"{kind}.tar" for kind in names}
            tars = {kind: TarWriter(files.enter_context(open(path, "wb"))) for kind, path in paths.items()}
            for batch in self._batches(shards, shard):
                usable = [row for _, row in batch if row is not None]
                values = {kind: iter(self._encoded(kind, usable)) for kind in names}
                for sample_id, row in batch:
                    for kind, tar in tars.items():
                        tar.add(sample_id, [] if row is None else [(f"{kind}.npy", next(values[kind]))])
                    holes += row is None
            for tar in tars.values():
                tar.close()
            files.close()
            stem = index.names[shard].removesuffix(".tar")
            for kind, tar in tars.items():
                publish_shard(
                    folders[kind], stem, paths[kind], tar.index, shard=shard, source=source_of(index, shard),
                    content_hash=names[kind].rpartition("-")[2], revision=int(index.revisions[shard]),
                )  # fmt: skip
        return holes

    def _batches(self, shards: Shards, shard: int) -> Iterator[list[tuple[str, dict[str, torch.Tensor] | None]]]:
        rows = self._rows(shards, shard)
        while batch := list(islice(rows, self.batch)):
            yield batch

    def _rows(self, shards: Shards, shard: int) -> Iterator[tuple[str, dict[str, torch.Tensor] | None]]:
        """In the shard's order, some batches ahead of whoever takes them."""
        waiting: deque[Future] = deque()
        with ThreadPoolExecutor(self.threads) as pool:
            for position in range(int(shards.index.counts[shard])):
                waiting.append(pool.submit(self._prepared, shards, shard, position))
                if len(waiting) > BATCHES_AHEAD * self.batch:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _prepared(self, shards: Shards, shard: int, position: int) -> tuple[str, dict[str, torch.Tensor] | None]:
        """(id, tensors); None for a sample that training cannot use either, whatever conditions it is given."""
        sample_id = shards.index.id(shard, position)
        try:
            members = shards.read(shard, position)
            row = tensors_of(self.ready, members)
        except (CorruptSample, BrokenSample):
            return sample_id, None
        record, header = json.loads(members["json"]), read_header(members["jpg"], sniff(members["jpg"]))
        size = (header.width, header.height) if header.orientation < 5 else (header.height, header.width)
        if (record.get("width"), record.get("height")) != size:
            raise ShardError(
                f"{shards.index.url}/{shards.index.names[shard]}: sample {sample_id}: its record says "
                f"{record.get('width')} x {record.get('height')} pixels, its picture has {size[0]} x {size[1]}: without the "
                "picture its face could not be placed; pack it again, or train with data.encoder_cache=off"
            )
        return sample_id, row

    @torch.no_grad()
    def _encoded(self, kind: str, rows: list[dict[str, torch.Tensor]]) -> list[bytes]:
        if not rows:
            return []
        pixels = torch.stack([row["image" if kind == "vae" else "clip_pixels"] for row in rows]).to(self.device)
        if kind == "vae":
            encoded = vae_moments(self.encoders.vae, pixels)
        else:
            encoded = clip_features(self.encoders.image_encoder, pixels)
        with np.errstate(over="ignore"):  # reported below
            values = encoded.float().cpu().numpy().astype(STORED[self.stored])
        if not np.isfinite(values).all():
            raise ShardError(f"a value of {kind} does not fit into {self.stored}: make the cache with --dtype fp32")
        return [_npy(value) for value in values]


def open_encoders(recipe: TrainRecipe) -> tuple[FrozenEncoders, Preparation]:
    """The encoders in fp32 on the CPU, and how a sample is prepared for them."""
    config = load_config(recipe.model)
    vae, image_encoder, tokenizer, processor = pretrained_encoders(**base_parts(config, recipe.base))
    ready = Preparation(
        config.conditions,
        config.resolution,
        config.identity_dim,
        tokenizer,
        processor,
        recipe.objective.condition_dropout,
    )
    return FrozenEncoders(config, vae, image_encoder, processor), ready


def _npy(value: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, value, allow_pickle=False)
    return file.getvalue()
