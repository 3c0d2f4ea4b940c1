"""Train Face-MakeUp on shards, here or on a cluster: the same command, the same code.

python jobs/train.py                                                    tiny, on the sample's shards, here
python jobs/train.py --recipe my.yaml --out runs/train/my --ranks 8      on a local Ray, one rank a GPU
torchrun --nproc-per-node 8 jobs/train.py --recipe my.yaml --out ...     without Ray
python jobs/train.py ... --cluster http://head:8265                     as a Ray job on that cluster
ray job submit --working-dir . -- python jobs/train.py --recipe my.yaml --out s3://bucket/my --ranks 64

Started again with the same --out it goes on where it was, with any number of ranks that divides batch.lanes.
To stop: SIGTERM under torchrun; `touch OUT/stop` under Ray. The step that runs is finished and saved first.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="tiny", help="default, authors, tiny or a YAML file (%(default)s)")
    parser.add_argument("--out", default="runs/train/tiny", help="checkpoints, log, pictures, export (%(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="e.g. engine.zero=3")
    parser.add_argument("--ranks", type=int, help="worker processes; default: one a GPU, 1 without")
    parser.add_argument("--failures", type=int, default=3, help="restarts after a worker died (%(default)s)")
    parser.add_argument("--cluster", metavar="URL", help="submit to this Ray cluster's dashboard address")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """0: trained to the end, or stopped as asked; 1: it failed; 2: it was not begun, and why."""
    asked = parser().parse_args(arguments)
    from training.recipe import RecipeError, load_recipe

    try:
        recipe = load_recipe(asked.recipe, asked.set)
        if asked.cluster:
            return _submit(asked)
        recipe = _with_base(recipe)
        if "RANK" in os.environ:
            return _as_rank(recipe, asked.out)
        return _with_ray(recipe, asked)
    except RecipeError as error:
        print(error, file=sys.stderr)
        return 2


def _with_base(recipe):
    """The tiny model stands on a tiny base that has learnt: found in the cache, or trained now."""
    from model.config import load_config

    config = load_config(recipe.model)
    if recipe.base or config.pretrained:
        return recipe
    from curation.progress import say
    from jobs.tiny_base import tiny_base

    say("train", f"{recipe.model} needs a base that has learnt: found in the cache, or trained now, in minutes")
    return recipe.model_copy(update={"base": str(tiny_base(config))})


def _submit(asked: argparse.Namespace) -> int:
    from curation.cluster import passed_on
    from jobs.submission import NoCluster, client_of, follow

    try:
        follow(client_of(asked.cluster), asked.cluster, ["python", "jobs/train.py", *_again(asked)], passed_on())
    except NoCluster as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _as_rank(recipe, out: str) -> int:
    """One rank of torchrun's."""
    from training.launch import init_distributed, stop_on_signal
    from training.trainer import train

    stop = stop_on_signal()
    init_distributed(recipe)
    rank, world, local = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    train(recipe, out, rank, world, local, stop, _shown(recipe.steps, rank))
    return 0


def _with_ray(recipe, asked: argparse.Namespace) -> int:
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    from curation.cluster import connected
    from training.recipe import RecipeError

    out = asked.out if "://" in asked.out else str(Path(asked.out).resolve())
    tree = recipe.model_dump(mode="json")
    for section, name in ((tree["data"], "shards"), (tree, "base")):
        if section[name] and Path(section[name]).exists():
            section[name] = str(Path(section[name]).resolve())  # a worker's folder is another
    with connected(None):
        gpus = int(ray.cluster_resources().get("GPU", 0)) if recipe.engine.device != "cpu" else 0
        ranks = asked.ranks or max(1, gpus)
        if recipe.batch.lanes % ranks:
            raise RecipeError(f"--ranks {ranks} does not divide batch.lanes, {recipe.batch.lanes}")
        share = {"GPU": 1, "CPU": 1} if gpus else {"CPU": 1}
        trainer = TorchTrainer(
            _ray_rank,
            train_loop_config={"recipe": tree, "out": out},
            torch_config=TorchConfig(backend="nccl" if gpus else "gloo"),
            scaling_config=ScalingConfig(num_workers=ranks, use_gpu=bool(gpus), resources_per_worker=share),
            run_config=RunConfig(
                name=Path(out).name,
                storage_path=str(Path(out) / "ray") if "://" not in out else f"{out}/ray",
                failure_config=FailureConfig(max_failures=asked.failures),
            ),
        )
        with _watched(Path(out), recipe.steps) if "://" not in out else contextlib.nullcontext():
            trainer.fit()
    return 0


@contextlib.contextmanager
def _watched(out: Path, steps: int):
    """Shows the run's log while it is written: workers are other processes, maybe on other machines."""
    from curation.progress import Steps, say

    ended = threading.Event()
    log = out / "log.jsonl"
    offset = log.stat().st_size if log.exists() else 0

    def watch() -> None:
        at, shown = offset, None
        while not ended.wait(1):
            if not log.exists():
                continue
            with log.open() as lines:
                lines.seek(at)
                new = [json.loads(line) for line in lines.readlines() if line.endswith("\n")]
                at = lines.tell()
            for row in new:
                if row["kind"] == "train":
                    shown = shown or Steps("train", steps - row["step"], "steps").__enter__()
                    done = row["step"] - (steps - shown.total) - shown.done
                    note = f"step {row['step']} of {steps}, loss {row['loss']:.4f}, data wait {row['data_wait']:.1%}"
                    shown.advance(done, note)
                elif row["kind"] == "validation":
                    say("train", f"step {row['step']}: fixed-noise loss {row['loss']:.4f}")
                elif row["kind"] in ("corrupt", "diverged"):
                    say("train", f"[red]{row['kind']}[/] at step {row['step']}: {row}")
        if shown:
            shown.__exit__(None, None, None)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=5)


def _ray_rank(config: dict) -> None:
    """In a worker's thread: it can take no signals, so a file asks it to stop."""
    import ray.train

    from training.launch import init_distributed, stop_on_file
    from training.recipe import checked
    from training.trainer import train

    recipe, out = checked(config["recipe"], "the recipe"), config["out"]
    context = ray.train.get_context()
    rank, world, local = context.get_world_rank(), context.get_world_size(), context.get_local_rank()
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(local)}
    init_distributed(recipe)
    show = _shown(recipe.steps, rank)

    def seen(progress) -> None:
        show(progress)
        if progress.step % recipe.seeing.log_every == 0 or progress.step == progress.steps:
            ray.train.report({"step": progress.step, "loss": progress.loss})

    train(recipe, out, rank, world, local, stop_on_file(f"{out}/stop"), seen)


def _shown(steps: int, rank: int):
    """A line now and then on rank 0: loss, rate, and the time that is left."""
    from curation.progress import Steps

    shown: list[Steps] = []

    def seen(progress) -> None:
        if rank:
            return
        if not shown:
            shown.append(Steps("train", steps - progress.step + 1, "steps").__enter__())
        shown[0].advance(1, f"step {progress.step} of {steps}, loss {progress.loss:.4f}")
        if progress.step == steps:
            shown[0].__exit__(None, None, None)

    return seen


def _again(asked: argparse.Namespace) -> list[str]:
    words = ["--recipe", asked.recipe, "--out", asked.out, "--failures", str(asked.failures)]
    words += [word for change in asked.set for word in ("--set", change)]
    return words + (["--ranks", str(asked.ranks)] if asked.ranks else [])


if __name__ == "__main__":
    raise SystemExit(main())
