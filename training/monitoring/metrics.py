"""How fast and how well a run goes: the numbers of a line of its log."""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from model.config import ModelConfig
from training.planning.flops import flops_of, peak_flops
from training.recipe import TrainRecipe


@dataclass
class Meter:
    """Of rank 0, from one line of the log to the next. Losses and norms are the same on all ranks.

    MFU is of the model's own FLOPs, forward and backward, without the frozen encoders and without what checkpointing
    computes again (PaLM, arXiv 2204.02311, appendix B); None where the device's peak is not known, as on a CPU.
    """

    recipe: TrainRecipe
    config: ModelConfig
    device: torch.device
    world: int
    started: float = field(default_factory=lambda: time.monotonic())
    waited: float = 0.0
    done: int = 0
    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """What is done in it is no part of how fast the training is."""
        before = time.monotonic()
        yield
        self.started += time.monotonic() - before

    def step(self, waited: float) -> None:
        """`waited`: seconds until the step's data was there, on the rank that waited longest."""
        self.waited += waited
        self.done += 1

    def took(self, loss: float, norm: float) -> None:
        """Of a step, once they have come from the device."""
        self.losses.append(loss)
        self.norms.append(norm)

    def line(self, step: int) -> dict[str, Any]:
        """What is logged of the steps since the last line, which are then forgotten. `step`: finished steps, whose losses
        have all been told: the device is done with them, so this is their time."""
        seconds = time.monotonic() - self.started
        images = self.done * self.recipe.batch.size / seconds
        flops = images * flops_of(self.config).step
        peak = peak_flops(self.device, self.recipe.engine.dtype)
        line = {
            "loss": sum(self.losses) / len(self.losses),
            "lr": self.recipe.optimiser.lr_at(step - 1, self.recipe.steps),
            "images_per_second": images,
            "tflops_per_second": flops / 1e12,
            "mfu": flops / (peak * self.world) if peak else None,
            "data_wait": self.waited / seconds,
            "grad_norm": _mean([norm for norm in self.norms if math.isfinite(norm)]),  # fp16 skips the others
            "peak_memory_gb": self._peak_memory() / 1e9,
        }
        self.started, self.waited, self.done = time.monotonic(), 0.0, 0
        self.losses.clear()
        self.norms.clear()
        return line

    def _peak_memory(self) -> int:
        """Bytes, the most so far: of the device on a GPU, else of the process."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
