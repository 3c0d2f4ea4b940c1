"""Training under torchrun, without Ray: this process is one rank."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from common.progress import ProgressBar
from training.launch.process_group import init_distributed
from training.launch.rank import run_rank
from training.launch.stop_checks import any_of, clear_stop_request, stop_on_file, stop_on_signal
from training.recipe import TrainRecipe

if TYPE_CHECKING:
    from training.trainer import Progress


def under_torchrun() -> bool:
    return "RANK" in os.environ


def train_under_torchrun(recipe: TrainRecipe, out: str) -> int:
    """Train as the rank that the environment names; the finished steps.

    Raises:
        NonRetryableError: what no restart cures. Everything else is what training raised.
    """
    rank, world, local_rank = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    if rank == 0:
        clear_stop_request(out)
    stop_check = any_of(stop_on_signal(), stop_on_file(out, rank))
    init_distributed(recipe)
    return run_rank(recipe, out, rank, world, local_rank, stop_check, _progress_line(recipe.steps, rank))


def _progress_line(steps: int, rank: int) -> Callable[[Progress], None]:
    """A line now and then on rank 0: loss, speed, and the time that is left."""
    bar = ProgressBar("train", steps, "steps")

    def on_step(progress: Progress) -> None:
        if rank:
            return
        if not bar.done:
            bar.__enter__()
        bar.advance(progress.step - bar.done, f"loss {progress.loss:.4f}")
        if progress.step == steps:
            bar.__exit__(None, None, None)

    return on_step
