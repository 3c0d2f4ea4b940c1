"""How fast and how well a run goes: what stands in a line of its log, and when its loss says that it has collapsed."""

from __future__ import annotations

import math
import resource
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from model.config import ModelConfig
from training.planning.flops import flops_of, peak_flops
from training.recipe import TrainRecipe

WINDOW = 20  # steps of a mean that is compared: one batch's loss says little
FIRST = 5  # steps whose mean is the first to be beaten: before the rate has grown


@dataclass
class Meter:
    """Of one rank, from one line of the log to the next. Losses and norms are the same on all ranks.

    MFU is of the model's own FLOPs, forward and backward, without the frozen encoders and without what checkpointing
    computes again (PaLM, arXiv 2204.02311, appendix B); None where the device's peak is not known, as on a CPU.
    """

    recipe: TrainRecipe
    config: ModelConfig
    device: torch.device
    world: int
    started: float = field(default_factory=lambda: time.monotonic())
    waited: float = 0.0
    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """What is done in it is no part of how fast the training is."""
        before = time.monotonic()
        yield
        self.started += time.monotonic() - before

    def step(self, waited: float, loss: float, norm: float) -> None:
        """`waited`: seconds until the step's data was there, on the rank that waited longest."""
        self.waited += waited
        self.losses.append(loss)
        self.norms.append(norm)

    def line(self, step: int) -> dict[str, Any]:
        """What is logged of the steps since the last line, which are then forgotten. `step`: finished steps."""
        seconds, done = time.monotonic() - self.started, len(self.losses)
        images = done * self.recipe.batch.size / seconds
        flops = images * flops_of(self.config).step
        peak = peak_flops(self.device, self.recipe.engine.dtype)
        told = {
            "loss": sum(self.losses) / done,
            "rate": self.recipe.optimiser.rate_at(step - 1, self.recipe.steps),
            "images_per_second": images,
            "tflops_per_second": flops / 1e12,
            "mfu": flops / (peak * self.world) if peak else None,
            "data_wait": self.waited / seconds,
            "grad_norm": _mean([norm for norm in self.norms if math.isfinite(norm)]),  # fp16 skips the others
            "peak_memory_gb": self._peak_memory() / 1e9,
        }
        self.started, self.waited = time.monotonic(), 0.0
        self.losses.clear()
        self.norms.clear()
        return told

    def _peak_memory(self) -> int:
        """Bytes, the most so far: of the device on a GPU, else of the process."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


class Collapse:
    """Has the loss left where it was? The mean of the last steps against the lowest such mean so far.

    Args:
        factor: how many times the lowest mean is too much.
        lowest, at: of the run that is resumed: the lowest mean and the step that it ended with.
    """

    def __init__(self, factor: float, lowest: float | None = None, at: int = 0):
        self.factor, self.lowest, self.at = factor, lowest, at
        self._last: deque[float] = deque(maxlen=WINDOW)

    def seen(self, step: int, loss: float) -> bool:
        """`step`: finished steps; True: it has collapsed."""
        self._last.append(loss)
        mean = sum(self._last) / len(self._last)
        full = len(self._last) == WINDOW
        if (self.lowest is None and len(self._last) == FIRST) or (full and mean < self.lowest):
            self.lowest, self.at = mean, step
        return full and mean > self.factor * self.lowest

    def facts(self) -> dict[str, Any]:
        """For the manifest of a checkpoint."""
        return {"lowest_loss": self.lowest, "lowest_loss_at": self.at}
