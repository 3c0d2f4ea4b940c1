"""Draw from the same references, prompts and seeds by several methods, and score them side by side.

python jobs/evaluate.py                                       what `make curate` and `make train` left
python jobs/evaluate.py --shards shards/ --model exported/ --count 200 --images 4 --model-of clip=FOLDER --out runs/mine
python jobs/evaluate.py --methods face-makeup ip-adapter-faceid theirs=drawn/ references others --weights models/
python -m evaluation score --help                             pictures that were drawn anywhere

Started again with the same --out it draws and scores only what is missing.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")  # of an adapter it warns of what is meant to be so

from evaluation.methods.registry import BOUNDS, DEFAULT, METHODS
from generation.options import positive_int


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--shards", default="runs/sample/shards/sample", help="references come from these (%(default)s)"
    )
    parser.add_argument(
        "--methods", nargs="+", default=list(DEFAULT), metavar="METHOD", help=f"the rows: {', '.join([*METHODS, *BOUNDS])}, or "
        "NAME=FOLDER of pictures drawn anywhere, or NAME=FILE.yaml of a program (%(default)s)",
    )  # fmt: skip
    parser.add_argument("--model", help="Face-MakeUp's: an exported folder (what `make train` left)")
    parser.add_argument(
        "--part", action="append", default=[], metavar="METHOD.ROLE=PLACE", help="a file or folder of a method"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="METHOD.SETTING=VALUE", help="other than published"
    )
    parser.add_argument("--out", default="runs/evaluation", help="references, pictures, scores, table (%(default)s)")
    parser.add_argument("--count", type=positive_int, default=16, help="references (%(default)s)")
    parser.add_argument("--images", type=positive_int, default=1, help="pictures a reference and prompt (%(default)s)")
    parser.add_argument("--steps", type=positive_int, default=12, help="of Face-MakeUp's sampler (%(default)s)")
    parser.add_argument("--prompts", metavar="FILE", help="YAML, NAME: words; default: evaluation/prompts/own.yaml")
    parser.add_argument(
        "--model-of", action="append", default=[], metavar="ROLE=PLACE", help="of metrics: --model of `python -m "
        "evaluation score`",
    )  # fmt: skip
    parser.add_argument("--trained-on", metavar="RUN", help="leave out photos of these shards, or of this run's")
    parser.add_argument("--votes", action="append", default=[], metavar="FILE", help="of report.html's blind mode")
    parser.add_argument("--weights", help="a folder of model files, looked in first")
    parser.add_argument(
        "--twins", action="store_true", help="also tiny random twins of the methods: they run, and draw noise"
    )
    parser.add_argument("--device", default="auto", help="that methods draw on: auto, cpu, cuda ...")
    parser.add_argument("--dtype", default="auto", choices=["auto", "fp32", "fp16", "bf16"])
    return parser


def main(arguments: list[str] | None = None) -> int:
    """0: scored; 1: no picture could be; 2: it was not begun, and why."""
    asked = parser().parse_args(arguments)
    from common.command_line import exit_code_of
    from evaluation.sample import PROMPTS, EvaluateOptions, evaluate_command

    # of all variants, unless one has its own
    steps = [
        f"{name}.steps={asked.steps}" for name in asked.methods if name in METHODS and name.startswith("face-makeup")
    ]
    options = EvaluateOptions(
        asked.shards, asked.out, asked.count, asked.images, asked.methods,
        [*([f"face-makeup.model={asked.model}"] if asked.model else []), *asked.part], [*steps, *asked.set],
        asked.prompts or str(PROMPTS), asked.model_of, asked.weights, asked.trained_on, asked.votes, asked.device, asked.dtype, asked.twins,
    )  # fmt: skip
    return exit_code_of(lambda: evaluate_command(options))


if __name__ == "__main__":
    raise SystemExit(main())
