"""One shard -> the shard of what the frozen encoders make of its samples: whole, or not there."""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image

from common.hashing import sha256_of_bytes, sha256_of_file
from model.build import base_parts, pretrained_encoders
from model.conditioning.features import clip_features
from model.config import load_config
from model.dtypes import torch_dtype
from training.data.batches import BrokenSample, Preparation, tensors_of
from training.data.folder import CorruptSample, Folder, ShardError
from training.data.index import ShardIndex
from training.data.shards import Shards
from training.encoder_cache.reading import STORED, Sources, folder_name, source_of
from training.encoders import vae_moments
from training.recipe import TrainRecipe

AHEAD = 4  # batches that are decoded while one is encoded
EXIF_ORIENTATION = 0x0112


class Store(Protocol):
    """A folder where a file appears whole or not at all (curation.run_directory.run.Run)."""

    def put_file(self, local: Path, relative: str) -> None: ...
    def write_bytes(self, relative: str, data: bytes) -> None: ...
    def write_json(self, relative: str, value: Any) -> None: ...


@dataclass
class Plan:
    """A kind's folder, what its key stands for, and which shards are to be made."""

    kind: str
    name: str
    facts: dict[str, Any]
    todo: list[int]


def plan(sources: Sources, kind: str, stored: str, computed: str, index: ShardIndex) -> Plan:
    """What is missing or stale. A shard counts that has its sidecar, of this source, and all its bytes."""
    facts = sources.facts(kind, computed)
    name = folder_name(facts, stored)
    folder = Folder(f"{index.url}/cached/{name}")
    try:
        files = folder.files()
    except ShardError:
        files = {}
    sidecars = {f"{tar[:-4]}.json": shard for shard, tar in enumerate(index.names)}
    there = [sidecar for sidecar in sidecars if sidecar in files and f"{sidecar[:-5]}.tar" in files]
    todo = set(range(len(index)))
    for start in range(0, len(there), 256):
        for sidecar, text in folder.read_many(there[start : start + 256]).items():
            shard, told = sidecars[sidecar], json.loads(text)
            whole = files[f"{sidecar[:-5]}.tar"].size in (None, told["bytes"])
            if whole and (told["source"], told["revision"]) == (source_of(index, shard), int(index.revisions[shard])):
                todo.discard(shard)
    shown = {**facts, "stored": stored, "shape": sources.shape(kind)}
    return Plan(kind, name, shown, sorted(todo))


class ShardEncoder:
    """Encodes whole shards; holds the encoders on one device.

    Args:
        recipe: of the training that will read it.
        stored: dtype of the values, a key of `STORED`.
        threads: that decode; the encoders have the calling one.
    """

    def __init__(self, recipe: TrainRecipe, stored: str, device: torch.device, threads: int = 1):
        self.sources, self.ready = open_sources(recipe)
        self.stored, self.device, self.threads, self.batch = stored, device, threads, recipe.batch.micro
        for part in (self.sources.vae, self.sources.image_encoder):
            part.requires_grad_(False)
            if part.device != device or part.dtype != torch_dtype(recipe.engine.dtype):
                part.to(device, torch_dtype(recipe.engine.dtype))
        if recipe.engine.channels_last:
            self.sources.vae.to(memory_format=torch.channels_last)

    def write(self, shards: Shards, shard: int, names: Mapping[str, str], stores: Mapping[str, Store]) -> int:
        """Make the shard's values of the kinds in `names` ({kind: folder name}); the samples that cannot be used.

        Raises:
            ShardError: the shard cannot be had, a record contradicts its picture, or a value is too large to be stored.
        """
        index, holes = shards.index, 0
        with tempfile.TemporaryDirectory() as scratch:
            tars = {kind: _Tar(Path(scratch) / f"{kind}.tar") for kind in names}
            for batch in self._batches(shards, shard):
                usable = [row for _, row in batch if row is not None]
                values = {kind: self._encoded(kind, usable) for kind in names}
                at = 0
                for sample_id, row in batch:
                    for kind, tar in tars.items():
                        tar.add(sample_id, {} if row is None else {f"{kind}.npy": values[kind][at]})
                    at += row is not None
                    holes += row is None
            for kind, tar in tars.items():
                _publish(stores[kind], tar, index, shard, names[kind].rpartition("-")[2])
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
                if len(waiting) > AHEAD * self.batch:
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
        told, found = json.loads(members["json"]), _upright_size(members["jpg"])
        if (told.get("width"), told.get("height")) != found:
            raise ShardError(
                f"{shards.index.url}/{shards.index.names[shard]}: sample {sample_id}: its record says "
                f"{told.get('width')} x {told.get('height')} pixels, its picture has {found[0]} x {found[1]}: without the "
                "picture its face could not be placed; pack it again, or train with data.encoder_cache=off"
            )
        return sample_id, row

    @torch.no_grad()
    def _encoded(self, kind: str, rows: list[dict[str, torch.Tensor]]) -> list[bytes]:
        if not rows:
            return []
        seen = torch.stack([row["image" if kind == "vae" else "clip_pixels"] for row in rows]).to(self.device)
        if kind == "vae":
            encoded = vae_moments(self.sources.vae, seen)
        else:
            encoded = clip_features(self.sources.image_encoder, seen)
        with np.errstate(over="ignore"):  # said below
            values = encoded.float().cpu().numpy().astype(STORED[self.stored])
        if not np.isfinite(values).all():
            raise ShardError(f"a value of {kind} does not fit into {self.stored}: make the cache with --dtype fp32")
        return [_npy(value) for value in values]


def open_sources(recipe: TrainRecipe) -> tuple[Sources, Preparation]:
    """The encoders in fp32 on the CPU, and how a sample is prepared for them."""
    config = load_config(recipe.model)
    vae, eyes, tokenizer, processor = pretrained_encoders(**base_parts(config, recipe.base))
    ready = Preparation(
        config.conditions,
        config.resolution,
        config.identity_dim,
        tokenizer,
        processor,
        recipe.objective.condition_dropout,
    )
    return Sources(config, vae, eyes, processor), ready


class _Tar:
    """A tar with nothing in it that changes from one run to the next, and its index."""

    def __init__(self, path: Path):
        self.path, self.index = path, []
        self._file = open(path, "wb")
        self._tar = tarfile.open(fileobj=self._file, mode="w", format=tarfile.USTAR_FORMAT)

    def add(self, sample_id: str, members: Mapping[str, bytes]) -> None:
        places = {}
        for extension, data in members.items():
            info = tarfile.TarInfo(f"{sample_id}.{extension}")
            info.size, info.mode = len(data), 0o644
            places[extension] = [self._file.tell() + tarfile.BLOCKSIZE, len(data)]
            self._tar.addfile(info, io.BytesIO(data))
        self.index.append({"id": sample_id, "members": places})

    def close(self) -> None:
        self._tar.close()
        self._file.close()


def _publish(store: Store, tar: _Tar, index: ShardIndex, shard: int, key: str) -> None:
    """The tar, and last its sidecar: a stale one names another source until then."""
    tar.close()
    name = index.names[shard]
    sidecar = {
        "shard": shard,
        "samples": len(tar.index),
        "bytes": tar.path.stat().st_size,
        "sha256": sha256_of_file(tar.path),
        "revision": int(index.revisions[shard]),
        "content_hash": key,
        "plan": sha256_of_bytes("\n".join(index.ids(shard)).encode())[:16],
        "source": source_of(index, shard),
        "index": tar.index,
    }
    store.put_file(tar.path, name)
    store.write_bytes(f"{name[:-4]}.json", json.dumps(sidecar, separators=(",", ":")).encode())


def _npy(value: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, value, allow_pickle=False)
    return file.getvalue()


def _upright_size(jpeg: bytes) -> tuple[int, int]:
    """(width, height) by the header alone."""
    with Image.open(io.BytesIO(jpeg)) as image:
        turned = int(image.getexif().get(EXIF_ORIENTATION, 1) or 1) in (5, 6, 7, 8)
        return image.size[::-1] if turned else image.size
