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
import os
import shlex
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


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
    parser.add_argument("--cluster", metavar="PLACE", help="submit to this cluster: docs/cluster.md")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """0: everything is there; 1: the cluster or the job failed; 2: it was not begun, or a shard stopped it, and why."""
    asked = parser().parse_args(arguments)
    from common.command_line import exit_code_of

    return exit_code_of(lambda: _cache(asked))


def _cache(asked: argparse.Namespace) -> int:
    from common.cluster.job import Job
    from common.cluster.jobs import run_on_cluster
    from common.progress import say
    from jobs.tiny_base import sample_photos
    from training.encoder_cache.on_ray import kinds_of, write_encoder_cache
    from training.launch.preflight import require_shared_shards
    from training.recipe import load_recipe, submitted_recipe
    from training.tiny_base.provide import with_base

    kinds = kinds_of(asked.what)
    recipe = submitted_recipe() or load_recipe(asked.recipe, asked.set)
    if not asked.cluster:
        write_encoder_cache(with_base(recipe, sample_photos), kinds, asked.dtype, asked.workers)
        words = ["python", "jobs/train.py", "--recipe", asked.recipe, *(f"--set={change}" for change in asked.set)]
        say("cache", f"next, training that reads it: {shlex.join(words)}")
        return 0
    require_shared_shards(recipe.data.shards)
    command = ["python", "jobs/cache.py", "--recipe", asked.recipe, "--what", asked.what]
    command += ["--dtype", asked.dtype] if asked.dtype else []
    command += ["--workers", str(asked.workers)] if asked.workers else []
    job = Job(command, f"cache {recipe.data.shards}", recipe.model_dump_json())
    return 1 if run_on_cluster(asked.cluster, job) else 0


if __name__ == "__main__":
    raise SystemExit(main())
