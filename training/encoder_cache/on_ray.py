"""The encoder cache of a training recipe, computed on Ray: a shard a row of a Ray Data pipeline, an encoder an actor."""

from __future__ import annotations

import tempfile
from typing import Any

import ray

from common.cluster.pools import cpu_pool, gpu_pool, machines_of
from common.cluster.runtime import connected
from common.cluster.work import LOST_WORKERS, map_with_actors
from common.progress import ProgressBar, say
from common.storage import Storage
from training.data.encodings import KINDS
from training.data.folder import ShardError
from training.data.index import ShardIndex, read_index
from training.data.shards import Shards
from training.encoder_cache.writing import MissingShards, ShardEncoder, missing_shards, open_encoders
from training.recipe import RecipeError, TrainRecipe, checked, for_workers


def kinds_of(what: str) -> list[str]:
    """The kinds of values in an option such as "vae,clip".

    Raises:
        RecipeError: an unknown kind.
    """
    asked = what.split(",")
    if unknown := [kind for kind in asked if kind not in KINDS]:
        raise RecipeError(f"--what {what}: {unknown[0] or 'nothing'} cannot be cached; give vae, clip or vae,clip")
    return list(dict.fromkeys(asked))


def write_encoder_cache(recipe: TrainRecipe, kinds: list[str], stored: str | None, workers: int | None) -> None:
    """Compute what is missing of the encoder cache beside the recipe's shards.

    Args:
        kinds: of `KINDS`.
        stored: dtype of the stored values; None: fp16 with GPUs, else fp32.
        workers: encoders at work; None: one a GPU, or one a CPU.

    Raises:
        RecipeError, ShardError: what stands in the way, from a worker too.
    """
    index = read_index(recipe.data.shards, recipe.data.shard_cache)
    if index.url.startswith("http"):
        raise RecipeError(
            f"{index.url}: nothing can be written beside shards on a web server; run this where they are kept"
        )
    encoders, _ = open_encoders(recipe)
    with connected(None):
        gpu = recipe.engine.device != "cpu" and ray.cluster_resources().get("GPU", 0) >= 1
        stored = stored or ("fp16" if gpu else "fp32")
        missing = [missing_shards(encoders, kind, stored, recipe.engine.dtype, index) for kind in kinds]
        for each in missing:
            store = _storage(index, each.name)
            store.sweep()
            store.write_json("cached.json", each.facts)
            say("cache", f"{len(each.todo):,} of {len(index):,} shards to make in cached/{each.name} ({stored})")
        if any(each.todo for each in missing):
            _encode(recipe, index, missing, stored, workers, gpu)
    for each in missing:
        sizes = dict(zip(index.names, index.counts.tolist(), strict=True))
        _storage(index, each.name).write_json("sizes.json", sizes)
        say("cache", f"all {len(index):,} shards are in {index.url}/cached/{each.name}")


def _storage(index: ShardIndex, name: str) -> Storage:
    return Storage(f"{index.url}/cached/{name}")


def _encode(
    recipe: TrainRecipe, index: ShardIndex, missing: list[MissingShards], stored: str, workers: int | None, gpu: bool
) -> None:
    """Encode what is missing, a row a shard: a picture is decoded once for both kinds."""
    kinds: dict[int, list[str]] = {}
    for each in missing:
        for shard in each.todo:
            kinds.setdefault(shard, []).append(each.kind)
    rows = [{"shard": shard, "kinds": kinds[shard]} for shard in sorted(kinds)]
    machines = machines_of(ray.nodes())
    pool = gpu_pool(machines, workers, len(rows), 1) if gpu else cpu_pool(machines, workers, len(rows))
    arguments = {
        "recipe": for_workers(recipe),
        "stored": stored,
        "threads": max(1, int(ray.cluster_resources().get("CPU", 1)) // pool.start),
        "names": {each.kind: each.name for each in missing},
    }
    items = ray.data.from_items(rows, override_num_blocks=len(rows))
    dataset = map_with_actors(items, EncodeShards, arguments, pool, retries=LOST_WORKERS)
    holes = 0
    with ProgressBar("cache", sum(int(index.counts[shard]) for shard in kinds), "samples") as progress:
        for row in dataset.iter_rows():
            if row["error"]:
                raise ShardError(row["error"])
            holes += row["holes"]
            progress.advance(int(index.counts[row["shard"]]))
    say("cache", f"{progress.done:,} samples in {progress.seconds:.0f} s; {holes:,} cannot be used and are left out")


class EncodeShards:
    """An actor of Ray Data: holds the encoders and encodes a shard a call."""

    def __init__(self, recipe: dict[str, Any], stored: str, threads: int, names: dict[str, str]):
        import torch

        checked_recipe = checked(recipe, "the recipe")
        cuda = checked_recipe.engine.device != "cpu" and torch.cuda.is_available()
        self.names = names
        self.encoder = ShardEncoder(checked_recipe, stored, torch.device("cuda" if cuda else "cpu"), threads)
        self.index = read_index(checked_recipe.data.shards, checked_recipe.data.shard_cache)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        names = {kind: self.names[kind] for kind in row["kinds"]}
        folders = {kind: _storage(self.index, name) for kind, name in names.items()}
        # a shard from elsewhere is needed once: it goes with the folder
        with tempfile.TemporaryDirectory() as scratch:
            shards = Shards(self.index, scratch, int(self.index.bytes.max()))
            try:
                holes, error = self.encoder.write(shards, row["shard"], names, folders), ""
            except ShardError as problem:  # as a row: what is raised here arrives wrapped, and its cause as text
                holes, error = 0, str(problem)
            finally:
                shards.close()
        return {"shard": row["shard"], "holes": holes, "error": error}
