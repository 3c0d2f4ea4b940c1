"""Train Face-MakeUp on shards, here or on a cluster: the same command, the same code.

python jobs/train.py                                                    tiny, on the sample's shards, here
python jobs/train.py --recipe my.yaml --out runs/train/my --ranks 8      on a local Ray, one rank a GPU
torchrun --nproc-per-node 8 jobs/train.py --recipe my.yaml --out ...     without Ray
python jobs/train.py ... --cluster http://head:8265                     as a Ray job on that cluster
ray job submit --working-dir . -- python jobs/train.py --recipe my.yaml --out s3://bucket/my --ranks 64

Started again with the same --out it goes on where it was, with any number of ranks that divides batch.lanes.
--export writes the newest checkpoint's weights for others to load, of a run that has ended or was stopped: it takes the
folder over, and a run that is still at work there would stop.
To stop: Ctrl-C, SIGTERM, `ray job stop` (docs/training.md: it wants more than its 3 seconds), or a file OUT/stop. The
step that runs is finished and saved first.
"""

from __future__ import annotations

import argparse
import base64
import os
import shlex
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

RECIPE_IN_ENVIRONMENT = "FACEMAKEUP_TRAIN_RECIPE"  # base64; of a file that the cluster may not have


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="tiny", help="default, authors, tiny or a YAML file (%(default)s)")
    parser.add_argument("--out", default="runs/train/tiny", help="checkpoints, log, pictures, export (%(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="e.g. engine.zero=3")
    parser.add_argument("--ranks", type=int, help="worker processes; default: one a GPU, 1 without")
    parser.add_argument("--failures", type=int, default=3, help="restarts after a worker died (%(default)s)")
    parser.add_argument(
        "--profile", type=int, nargs="?", const=3, metavar="STEPS", help="trace that many steps into OUT/profile (3)"
    )
    parser.add_argument(
        "--export", action="store_true", help="only write OUT/export of the newest checkpoint, as at the end of a run"
    )
    parser.add_argument("--cluster", metavar="URL", help="submit to this Ray cluster's dashboard address")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """0: trained to the end, or stopped as asked; 1: it failed; 2: it was not begun, and why."""
    asked = parser().parse_args(arguments)
    from training.data.folder import ShardError
    from training.launch.preflight import check_ranks, for_export, resolved_out
    from training.launch.rank import NonRetryableError
    from training.launch.torchrun import train_under_torchrun, under_torchrun
    from training.recipe import RecipeError

    try:
        recipe = _recipe(asked)
        if asked.cluster:
            return _submit(asked, recipe)
        out = resolved_out(asked.out)
        if asked.export:
            recipe = for_export(recipe, out)
        if under_torchrun():
            step = train_under_torchrun(_with_base(recipe), out)
        else:
            from training.launch.ray_train import train_on_ray

            check_ranks(recipe, asked.ranks or 1)  # before the minutes that a base may take
            step = train_on_ray(_with_base(recipe), out, asked.ranks, asked.failures)
    except (RecipeError, ShardError) as error:
        print(error, file=sys.stderr)
        return 2
    except NonRetryableError as error:
        print(error, file=sys.stderr)
        return error.code
    if step < recipe.steps and os.environ.get("RANK", "0") == "0":
        _say_stopped(asked, step, recipe.steps)
    return 0


def _recipe(asked: argparse.Namespace):
    from training.recipe import RecipeError, load_recipe

    if asked.ranks is not None and asked.ranks < 1:
        raise RecipeError(f"--ranks {asked.ranks}: at least 1")
    if asked.failures < 0:
        raise RecipeError(f"--failures {asked.failures}: 0 or more")
    if sent := os.environ.get(RECIPE_IN_ENVIRONMENT):
        with tempfile.TemporaryDirectory(prefix="facemakeup-recipe-") as folder:
            file = Path(folder) / Path(asked.recipe).name
            file.write_bytes(base64.b64decode(sent))
            return load_recipe(file, _changes(asked))
    return load_recipe(asked.recipe, _changes(asked))


def _changes(asked: argparse.Namespace) -> list[str]:
    return [*asked.set, *([f"monitoring.profile_steps={asked.profile}"] if asked.profile else [])]


def _with_base(recipe):
    """The tiny model stands on a tiny base that has learnt: found in the cache, or trained now."""
    from model.config import load_config

    config = load_config(recipe.model)
    if recipe.base or config.pretrained:
        return recipe
    from common.progress import say
    from jobs.tiny_base import tiny_base

    say("train", f"{recipe.model} needs a base that has learnt: found in the cache, or trained now, in minutes")
    return recipe.model_copy(update={"base": str(tiny_base(config))})


def _submit(asked: argparse.Namespace, recipe) -> int:
    from common.ray_jobs import NoCluster, client_of, follow
    from common.ray_runtime import passed_on
    from training.launch.preflight import resolved_out
    from training.recipe import RECIPES, RecipeError

    resolved_out(asked.out, on_cluster=True)
    try:
        client = client_of(asked.cluster)
    except NoCluster as error:
        raise RecipeError(str(error)) from None
    environment = passed_on()
    if not (RECIPES / f"{asked.recipe}.yaml").is_file():
        environment[RECIPE_IN_ENVIRONMENT] = base64.b64encode(Path(asked.recipe).read_bytes()).decode()
    try:
        follow(client, asked.cluster, ["python", "jobs/train.py", *_again(asked)], environment)
    except NoCluster as error:
        print(error, file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        print(f"no longer shown; the job goes on. `ray job stop` ends it, or a file {asked.out}/stop", file=sys.stderr)
    return 0


def _say_stopped(asked: argparse.Namespace, step: int, steps: int) -> None:
    from common.progress import say

    say("train", f"stopped as asked: step {step} of {steps} is saved in {asked.out}/checkpoints. To go on, the same")
    say("train", f"again: {shlex.join(['python', 'jobs/train.py', *_again(asked)])}")


def _again(asked: argparse.Namespace) -> list[str]:
    words = ["--recipe", asked.recipe, "--out", asked.out, "--failures", str(asked.failures)]
    words += [word for change in _changes(asked) for word in ("--set", change)]
    words += ["--export"] if asked.export else []
    return words + (["--ranks", str(asked.ranks)] if asked.ranks else [])


if __name__ == "__main__":
    raise SystemExit(main())
