"""Training under torchrun, without Ray: this process is one rank."""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import TYPE_CHECKING

from training.launch.log_view import following_log
from training.launch.process_group import init_distributed
from training.launch.rank import run_rank
from training.launch.stop_checks import any_of, clear_stop_request, stop_on_file, stop_on_signal
from training.recipe import TrainRecipe

if TYPE_CHECKING:
    from training.monitoring.held_out_panel import Evaluate


def under_torchrun() -> bool:
    return "RANK" in os.environ


def train_under_torchrun(recipe: TrainRecipe, out: str, evaluate: Evaluate | None = None) -> int:
    """Train as the rank that the environment names; the finished steps.

    Raises:
        NonRetryableError: what no restart cures. Everything else is what training raised.
    """
    rank, world, local_rank = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    if rank == 0:
        clear_stop_request(out)
    stop_check = any_of(stop_on_signal(), stop_on_file(out, rank))
    init_distributed(recipe)
    with nullcontext() if rank else following_log(out, recipe.steps):
        return run_rank(recipe, out, rank, world, local_rank, stop_check, evaluate=evaluate)
