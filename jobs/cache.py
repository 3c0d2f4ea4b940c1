"""Compute what the frozen encoders make of every sample, once, beside the shards; training then reads it.

python jobs/cache.py                                              the tiny model's VAE moments of the sample's shards
python jobs/cache.py --recipe my.yaml --what vae,clip             on a local Ray; CLIP features too
python jobs/cache.py --recipe my.yaml --cluster http://head:8265  as a Ray job on that cluster, an encoder a GPU
ray job submit --working-dir . -- python jobs/cache.py --recipe my.yaml

VAE moments of a 512 pixel image take 64 kB (fp16) and save the largest part of what the encoders cost; CLIP features take
658 kB and save a third as much. They are made for one recipe's encoders, resolution, crop and precision, and stand in
SHARDS/cached/. Only what is missing, or was made from a shard that changed since, is made: killed, it goes on.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


RECIPE_IN_ENVIRONMENT = "FACEMAKEUP_CACHE_RECIPE"  # base64; as resolved here: the cluster may not have the file


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--recipe", default="tiny", help="of the training: default, authors, tiny or a file (%(default)s)"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="e.g. data.shards=s3://b/shards"
    )
    parser.add_argument("--what", default="vae", help="vae, clip or vae,clip (%(default)s)")
    parser.add_argument(
        "--dtype", choices=("fp16", "fp32"), help="of the stored values; default: fp16 with GPUs, else fp32"
    )
    parser.add_argument("--workers", type=int, help="encoders at work; default: one a GPU, or one a CPU")
    parser.add_argument("--cluster", metavar="URL", help="submit to this Ray cluster's dashboard address")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """0: everything is there; 1: the cluster or the job failed; 2: it was not begun, or a shard stopped it, and why."""
    asked = parser().parse_args(arguments)
    from common.ray_jobs import NoCluster
    from training.data.folder import ShardError
    from training.recipe import RecipeError

    try:
        kinds = _kinds(asked.what)
        recipe = _recipe(asked)
        if asked.cluster:
            return _submit(asked, recipe)
        from jobs.train import _with_base

        return cache(_with_base(recipe), kinds, asked.dtype, asked.workers)
    except NoCluster as error:
        print(error, file=sys.stderr)
        return 1
    except (RecipeError, ShardError) as error:
        print(error, file=sys.stderr)
        return 2


def _recipe(asked: argparse.Namespace):
    from training.recipe import checked, load_recipe

    if sent := os.environ.get(RECIPE_IN_ENVIRONMENT):
        return checked(json.loads(base64.b64decode(sent)), asked.recipe)
    return load_recipe(asked.recipe, asked.set)


def _kinds(what: str) -> list[str]:
    from training.encoder_cache.reading import KINDS
    from training.recipe import RecipeError

    asked = what.split(",")
    if unknown := [kind for kind in asked if kind not in KINDS]:
        raise RecipeError(f"--what {what}: {unknown[0] or 'nothing'} cannot be cached; give vae, clip or vae,clip")
    return list(dict.fromkeys(asked))


def _submit(asked: argparse.Namespace, recipe) -> int:
    from common.ray_jobs import client_of, follow
    from common.ray_runtime import passed_on
    from training.recipe import RecipeError

    place = recipe.data.shards
    if "://" not in place and not Path(place).is_absolute():
        raise RecipeError(
            f"data.shards is {place}: on a cluster it must mean the same on every node: an absolute path on shared "
            "storage, or s3://bucket/..."
        )
    words = ["--recipe", asked.recipe, "--what", asked.what]
    words += ["--dtype", asked.dtype] if asked.dtype else []
    words += ["--workers", str(asked.workers)] if asked.workers else []
    sent = base64.b64encode(recipe.model_dump_json().encode()).decode()
    environment = {**passed_on(), RECIPE_IN_ENVIRONMENT: sent}
    follow(client_of(asked.cluster), asked.cluster, ["python", "jobs/cache.py", *words], environment)
    return 0


def cache(recipe, kinds: list[str], stored: str | None, workers: int | None) -> int:
    """Make what is missing, a shard a row of a Ray Data pipeline.

    Raises:
        RecipeError, ShardError: what stands in the way, from a worker too.
    """
    import ray

    from common.progress import say
    from common.ray_runtime import connected
    from curation.run_directory.run import Run
    from training.data.index import read_index
    from training.encoder_cache.writing import open_sources, plan
    from training.recipe import RecipeError

    index = read_index(recipe.data.shards, recipe.data.shard_cache)
    if index.url.startswith("http"):
        raise RecipeError(
            f"{index.url}: nothing can be written beside shards on a web server; run this where they are kept"
        )
    sources, _ = open_sources(recipe)
    with connected(None):
        gpu = recipe.engine.device != "cpu" and ray.cluster_resources().get("GPU", 0) >= 1
        stored = stored or ("fp16" if gpu else "fp32")
        plans = [plan(sources, kind, stored, recipe.engine.dtype, index) for kind in kinds]
        for each in plans:
            store = Run(f"{index.url}/cached/{each.name}")
            store.sweep()
            store.write_json("cached.json", each.facts)
            say("cache", f"{len(each.todo):,} of {len(index):,} shards to make in cached/{each.name} ({stored})")
        if any(each.todo for each in plans):
            _make(recipe, index, plans, stored, workers, gpu)
    for each in plans:
        sizes = dict(zip(index.names, index.counts.tolist(), strict=True))
        Run(f"{index.url}/cached/{each.name}").write_json("sizes.json", sizes)
    return 0


def _make(recipe, index, plans: list, stored: str, workers: int | None, gpu: bool) -> None:
    """What is to be made, a row a shard: a picture is decoded once for both kinds."""
    import ray

    from common.progress import Steps, say
    from common.ray_runtime import stage, worker_count
    from training.data.folder import ShardError
    from training.recipe import for_workers

    kinds: dict[int, list[str]] = {}
    for each in plans:
        for shard in each.todo:
            kinds.setdefault(shard, []).append(each.kind)
    rows = [{"shard": shard, "kinds": kinds[shard]} for shard in sorted(kinds)]
    count = worker_count(workers, len(rows), gpu)
    arguments = {
        "recipe": for_workers(recipe),
        "stored": stored,
        "threads": max(1, int(ray.cluster_resources().get("CPU", 1)) // count),
        "names": {each.kind: each.name for each in plans},
    }
    dataset = stage(ray.data.from_items(rows, override_num_blocks=len(rows)), CacheStage, arguments, count, gpu)
    holes = 0
    with Steps("cache", sum(int(index.counts[shard]) for shard in kinds), "samples") as steps:
        for row in dataset.iter_rows():
            if row["error"]:
                raise ShardError(row["error"])
            holes += row["holes"]
            steps.advance(int(index.counts[row["shard"]]))
    say("cache", f"{steps.done:,} samples in {steps.seconds:.0f} s; {holes:,} cannot be used and are left out")


class CacheStage:
    """An actor: holds the encoders, makes a shard's values."""

    def __init__(self, recipe: dict[str, Any], stored: str, threads: int, names: dict[str, str]):
        import torch

        from training.data.index import read_index
        from training.encoder_cache.writing import ShardEncoder
        from training.recipe import checked

        recipe = checked(recipe, "the recipe")
        cuda = recipe.engine.device != "cpu" and torch.cuda.is_available()
        self.names = names
        self.encoder = ShardEncoder(recipe, stored, torch.device("cuda" if cuda else "cpu"), threads)
        self.index = read_index(recipe.data.shards, recipe.data.shard_cache)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        import tempfile

        from curation.run_directory.run import Run
        from training.data.folder import ShardError
        from training.data.shards import Shards

        names = {kind: self.names[kind] for kind in row["kinds"]}
        stores = {kind: Run(f"{self.index.url}/cached/{name}") for kind, name in names.items()}
        # a shard from elsewhere is needed once: it goes with the folder
        with tempfile.TemporaryDirectory() as scratch:
            shards = Shards(self.index, scratch, int(self.index.bytes.max()))
            try:
                holes, error = self.encoder.write(shards, row["shard"], names, stores), ""
            except ShardError as problem:  # as a row: what is raised here arrives wrapped, and its cause as text
                holes, error = 0, str(problem)
            finally:
                shards.close()
        return {"shard": row["shard"], "holes": holes, "error": error}


if __name__ == "__main__":
    raise SystemExit(main())
