"""What `jobs/train.py` does: train here, on a Ray cluster or as a rank of torchrun, and say how it ended."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from common.progress import say
from training.launch.preflight import check_ranks, for_export, require_shared_shards, require_writable, resolved_out
from training.launch.rank import NonRetryableError
from training.launch.stop_checks import request_stop
from training.launch.torchrun import train_under_torchrun, under_torchrun
from training.recipe import RecipeError, TrainRecipe, load_recipe, submitted_recipe

if TYPE_CHECKING:
    from training.monitoring.held_out_panel import Evaluate


@dataclass(frozen=True)
class TrainOptions:
    """The options of `jobs/train.py`, whose --help explains them."""

    recipe: str
    out: str
    changes: list[str] = field(default_factory=list)
    ranks: int | None = None
    failures: int = 3
    export: bool = False
    cluster: str | None = None

    def command(self) -> list[str]:
        """The same command again, without --cluster."""
        words = ["python", "jobs/train.py", "--recipe", self.recipe, "--out", self.out]
        words += ["--failures", str(self.failures)]
        words += [word for change in self.changes for word in ("--set", change)]
        words += ["--export"] if self.export else []
        return words + (["--ranks", str(self.ranks)] if self.ranks else [])


def train_command(
    options: TrainOptions, with_base: Callable[[TrainRecipe], TrainRecipe], evaluate: Evaluate | None = None
) -> int:
    """Train as the options say; the exit code: 0: to the end, or stopped as asked; 1: it failed; 2: it was not begun.

    Args:
        with_base: gives a recipe that needs a base trained here its folder; may take minutes.
        evaluate: measures what a run draws from held-out photos.

    Raises:
        UserError: it was not begun, and why.
    """
    if options.ranks is not None and options.ranks < 1:
        raise RecipeError(f"--ranks {options.ranks}: at least 1")
    if options.failures < 0:
        raise RecipeError(f"--failures {options.failures}: 0 or more")
    recipe = submitted_recipe() or load_recipe(options.recipe, options.changes)
    if options.cluster:
        return _submit(options, recipe)
    out = resolved_out(options.out)
    require_writable(out)
    if options.export:
        recipe = for_export(recipe, out)
    try:
        if under_torchrun():
            step = train_under_torchrun(with_base(recipe), out, evaluate)
        else:
            from training.launch.ray_train import train_on_ray

            check_ranks(recipe, options.ranks or 1)  # before the minutes that a base may take
            step = train_on_ray(with_base(recipe), out, options.ranks, options.failures, evaluate)
    except NonRetryableError as error:
        print(error, file=sys.stderr)
        return error.code
    if os.environ.get("RANK", "0") == "0":
        _say_how_it_ended(options, recipe, step)
    return 0


def _submit(options: TrainOptions, recipe: TrainRecipe) -> int:
    from common.cluster.job import Job
    from common.cluster.jobs import run_on_cluster

    out = resolved_out(options.out, on_cluster=True)
    require_shared_shards(recipe.data.shards)
    job = Job(options.command(), f"train {out}", recipe.model_dump_json(), stop=lambda: request_stop(out))
    return run_on_cluster(options.cluster, job)


def _say_how_it_ended(options: TrainOptions, recipe: TrainRecipe, step: int) -> None:
    out = options.out
    if step < recipe.steps:
        say(
            "train",
            f"stopped as asked: step {step} of {recipe.steps} is saved in {out}/checkpoints. To go on, the same",
        )
        say("train", f"again: {shlex.join(options.command())}")
        return
    say("train", f"done: {recipe.steps} steps. Log: {out}/log.jsonl, {out}/tensorboard")
    if recipe.monitoring.validation_samples or recipe.evaluation.every:
        say("train", f"its curves on one page: {out}/run.html")
    if recipe.monitoring.validation_samples:
        say("train", f"pictures of the validation samples: {out}/pictures")
    if recipe.saving.export:
        say("train", f"weights for others: {out}/export")
        folder = f"{out}/export/pipeline"
        copy = f"copy {folder} to a disk, then " if "://" in out else ""
        say("train", f"next, to draw with them: {copy}make demo MODEL={'FOLDER' if copy else shlex.quote(folder)}")
    else:
        command = replace(options, export=True).command()
        say("train", f"next, to export the weights: {shlex.join(command)}")
