"""Draw from the same references, prompts and seeds by several methods, and score them side by side.

python jobs/evaluate.py                                       what `make curate` and `make train` left
python jobs/evaluate.py --shards shards/ --model exported/ --count 200 --images 4 --model-of clip=FOLDER --out runs/mine
python jobs/evaluate.py --methods face-makeup ip-adapter-faceid theirs=drawn/ references others --weights models/
python jobs/evaluate.py --recipe mine.yaml --cluster http://head:8265   as a Ray job on that cluster
ray job submit --working-dir . -- python jobs/evaluate.py --out s3://bucket/mine --shards s3://bucket/shards
python -m evaluation score --help                             pictures that were drawn anywhere

Started again with the same --out it draws and scores only what is missing. On a cluster, or with --actors, each method is a group
of actors that load it once; a method's memory is free before the next one is loaded.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")  # of an adapter it warns of what is meant to be so
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is downloaded: a folder that lacks a part is told as such

from evaluation.cluster.options import DTYPES, EvaluateOptions, job_of, options_of, submitted_options
from evaluation.methods.registry import BOUNDS, METHODS
from generation.options import finite_float, positive_int


def parser() -> argparse.ArgumentParser:
    usual = EvaluateOptions()
    # what is not given is the recipe's, else the usual
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, argument_default=argparse.SUPPRESS
    )
    add = parser.add_argument
    add(
        "--recipe",
        metavar="FILE",
        help="YAML of the options below but model and steps: shards, out, methods, parts, changes ...",
    )
    add("--shards", help=f"references come from these ({usual.shards})")
    add(
        "--methods", nargs="+", metavar="METHOD", help=f"the rows: {', '.join([*METHODS, *BOUNDS])}, or NAME=FOLDER of pictures "
        f"drawn anywhere, or NAME=FILE.yaml of a program ({' '.join(usual.methods)})",
    )  # fmt: skip
    add("--model", help="Face-MakeUp's: an exported folder (what `make train` left), also s3://...")
    add(
        "--part",
        dest="parts",
        action="append",
        metavar="METHOD.ROLE=PLACE",
        help="a file or folder of a method, also s3://...",
    )
    add("--set", dest="changes", action="append", metavar="METHOD.SETTING=VALUE", help="other than published")
    add("--out", help=f"references, pictures, scores, table: a folder, s3://... or gs://... ({usual.out})")
    add("--count", type=positive_int, help=f"references ({usual.count})")
    add("--images", type=positive_int, help=f"pictures a reference and prompt ({usual.images})")
    add("--steps", type=positive_int, help="of Face-MakeUp's sampler (12)")
    add("--prompts", metavar="FILE", help="YAML, NAME: words; default: evaluation/prompts/own.yaml")
    add("--model-of", dest="models", action="append", metavar="ROLE=PLACE", help="of metrics, as --model of `python -m evaluation score`")  # fmt: skip
    add("--trained-on", metavar="RUN", help="leave out photos of these shards, or of this run's")
    add("--votes", action="append", metavar="FILE", help="of report.html's blind mode")
    add("--weights", help="a folder of model files, looked in first")
    add("--twins", action="store_true", help="also tiny random twins of the methods: they run, and draw noise")
    add("--device", help="that methods draw on: auto, cpu, cuda ... (auto)")
    add("--dtype", choices=DTYPES, help="(auto: fp16 on a GPU)")
    add("--actors", type=positive_int, help="draw and score by so many actors of Ray; on a cluster: one a GPU")
    add("--price", type=finite_float, help="dollars an hour of a GPU, or of a machine without: what it costs is said")
    add("--cluster", metavar="PLACE", help="submit to this cluster: docs/cluster.md")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """0: scored; 1: no picture could be, or the job failed; 2: it was not begun, and why."""
    given = vars(parser().parse_args(arguments))
    from common.command_line import exit_code_of

    return exit_code_of(lambda: _evaluate(given))


def _evaluate(given: dict) -> int:
    cluster = given.pop("cluster", None)
    options = submitted_options() or options_of(given)
    if cluster:
        from common.cluster.jobs import run_on_cluster

        return run_on_cluster(cluster, job_of(options))
    from evaluation.sample import evaluate_command

    return evaluate_command(options)


if __name__ == "__main__":
    raise SystemExit(main())
