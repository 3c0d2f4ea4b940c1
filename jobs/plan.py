"""What to expect of a training run, and what is worth caching for it. Arithmetic: no model is run.

python jobs/plan.py                                        the default recipe on eight A100
python jobs/plan.py --recipe my.yaml --gpu h100 --gpus 64 --price 3 --storage-gbs 20
python jobs/plan.py --recipe my.yaml --measured runs/train/my    beside what a run did
python jobs/plan.py --json

What the recipe's shards say of themselves is read where they are; the rest is assumed, and printed as such.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

from training.planning.assumptions import OPTION_FIELDS


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="default", help="default, authors, tiny or a YAML file (%(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="e.g. engine.zero=3")
    parser.add_argument("--gpu", default="a100", help="a known GPU, or cpu (%(default)s)")
    parser.add_argument("--peak-tflops", type=float, help="dense peak of one GPU in the recipe's dtype, if not known")
    parser.add_argument("--mfu", default="0.30,0.40", help="shares of the peak that are used (%(default)s)")
    for field in OPTION_FIELDS:
        parser.add_argument(f"--{field.name.replace('_', '-')}", **{"type": float, **field.metadata})
    parser.add_argument("--measured", metavar="OUT", help="a run's folder: what it did beside what is predicted")
    parser.add_argument(
        "--cached", choices=("nothing", "vae", "vae+clip"), default="nothing", help="by that run (%(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="for machines, on stdout")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """0: planned; 2: it cannot be, and why."""
    asked = parser().parse_args(arguments)
    from common.command_line import exit_code_of

    return exit_code_of(lambda: _plan(asked))


def _plan(asked: argparse.Namespace) -> None:
    from model.config import load_config
    from training.planning.inputs import inputs_for
    from training.planning.measured import measured_run
    from training.planning.plan import plan
    from training.planning.tables import show
    from training.recipe import load_recipe

    recipe = load_recipe(asked.recipe, asked.set)
    options = {field.name: getattr(asked, field.name) for field in OPTION_FIELDS}
    inputs = inputs_for(recipe, asked.gpu, asked.peak_tflops, asked.mfu, options)
    planned = plan(recipe, load_config(recipe.model), inputs.given)
    measured = measured_run(asked.measured, asked.cached, inputs.given, planned) if asked.measured else None
    if asked.json:
        facts = {"recipe": recipe.name, "gpu": asked.gpu, **asdict(inputs)}
        print(json.dumps({**facts, "plan": asdict(planned), "measured": measured}, indent=1))
    else:
        show(recipe, asked.gpu, inputs, planned, measured)
        words = ["python", "jobs/train.py", "--recipe", asked.recipe, *(f"--set={change}" for change in asked.set)]
        print(f"Nothing was made. Next: {shlex.join(words)} --ranks {inputs.given.gpus}")


if __name__ == "__main__":
    raise SystemExit(main())
