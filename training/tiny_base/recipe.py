"""How a tiny base is trained: steps, batches, learning rates, and what is kept apart to be measured on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

ReportProgress = Callable[[str, int, int, str], None]  # name of the stage, steps done, of how many, note


@dataclass(frozen=True)
class BaseRecipe:
    """`held_out`: share of the photos that are only measured on; `samples`: pictures drawn."""

    vae_steps: int = 1200
    vae_batch: int = 4
    vae_learning_rate: float = 1e-3
    unet_steps: int = 400
    unet_batch: int = 32
    unet_learning_rate: float = 1e-3
    held_out: float = 0.15
    samples: int = 32
    seed: int = 0


DEFAULT = BaseRecipe()
