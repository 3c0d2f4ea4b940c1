"""One rank of a run, under torchrun and under Ray Train alike: it trains, and says which errors a restart does not cure."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from model.conditioning.identity import IdentityEncoder
from model.config import load_config
from training.recipe import TrainRecipe
from training.stop_request import StopCheck

if TYPE_CHECKING:
    from training.monitoring.held_out_panel import Evaluate
    from training.trainer import Progress


class NonRetryableError(RuntimeError):
    """What starting again does not cure.

    `code`, for the shell: 2 where the recipe or the data are wrong and nothing was begun, 1 where the run itself failed.
    """

    def __init__(self, message: str, code: int):
        super().__init__(message)
        self.code = code

    def __reduce__(self):
        return NonRetryableError, (str(self), self.code)


def run_rank(
    recipe: TrainRecipe,
    out: str,
    rank: int,
    world: int,
    local_rank: int,
    stop_check: StopCheck,
    on_step: Callable[[Progress], None] = lambda progress: None,
    evaluate: Evaluate | None = None,
) -> int:
    """`training.trainer.train`; its finished steps.

    Raises:
        NonRetryableError: what no restart cures. Everything else is what training raised, and may be cured by one.
    """
    from common.pinned_files.weights import WeightError
    from training.checkpoint import CheckpointFault
    from training.data.folder import ShardError
    from training.engine import EngineError
    from training.guards import Diverged, TooManyCorrupt
    from training.trainer import train

    begun = False

    def after_step(progress: Progress) -> None:
        nonlocal begun
        begun = True
        on_step(progress)

    try:
        encoder = identity_encoder_of(recipe, rank)
        return train(recipe, out, rank, world, local_rank, stop_check, after_step, encoder, evaluate)
    except (Diverged, TooManyCorrupt) as error:
        raise NonRetryableError(str(error), 1) from error
    except (ValueError, ShardError, EngineError, WeightError, CheckpointFault) as error:
        if begun:
            raise
        raise NonRetryableError(str(error), 2) from error


def identity_encoder_of(recipe: TrainRecipe, rank: int) -> IdentityEncoder | None:
    """On rank 0, the encoder that measures how alike drawn faces are; None, and said, where its files cannot be had.

    It is the one that the model is conditioned on and so judges its own cause: its figure tells that a run learns, not
    how good it is.
    """
    from common.pinned_files.weights import WeightError
    from common.progress import say
    from model.conditioning.identity import open_encoder

    if rank or not recipe.monitoring.validation_samples:
        return None
    conditions = load_config(recipe.model).conditions
    try:
        return open_encoder(conditions.identity_encoder, conditions.channel_order)
    except WeightError as error:
        say("train", f"how alike drawn faces are will not be measured: {error}")
        return None
