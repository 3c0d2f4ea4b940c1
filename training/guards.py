"""When a run must stop by itself: its loss is not finite, its loss has spiked, or too many samples are corrupt."""

from __future__ import annotations

import math
from collections import deque

WINDOW = 20  # steps of a mean that is compared: one batch's loss says little
FIRST = 5  # steps whose mean is the first to be beaten: before the learning rate has grown


class Diverged(RuntimeError):
    """The loss is not finite or has spiked; the message has the step, the samples and the checkpoint to go back to."""


class TooManyCorrupt(RuntimeError):
    """More corrupt samples than the recipe allows."""


class LossSpikeGuard:
    """Compares the mean loss of the last `WINDOW` steps with the lowest such mean so far.

    Args:
        factor: a mean of more than this many times the lowest one is a spike.
        lowest, at: of a run that is resumed: the lowest mean, and the step that it ended with.
    """

    def __init__(self, factor: float, lowest: float | None = None, at: int = 0):
        self.factor, self.lowest, self.at = factor, lowest, at
        self._last: deque[float] = deque(maxlen=WINDOW)

    def has_spiked(self, step: int, loss: float) -> bool:
        """Take in the loss of a step. `step`: finished steps."""
        self._last.append(loss)
        mean = sum(self._last) / len(self._last)
        full = len(self._last) == WINDOW
        if (self.lowest is None and len(self._last) == FIRST) or (full and mean < self.lowest):
            self.lowest, self.at = mean, step
        return full and mean > self.factor * self.lowest

    def facts(self) -> dict[str, float | None]:
        """What it goes on from, as a checkpoint's manifest has it."""
        return {"lowest_loss": self.lowest, "lowest_loss_at": self.at}


def is_not_finite(loss: float, norm: float, fp16: bool) -> bool:
    """Whether a step's loss or gradient norm means that the run has diverged.

    In fp16 a norm that is not finite is normal: the update is skipped and the loss scale halved. Anywhere else the
    update would be skipped, or written into the weights, in silence.
    """
    return not math.isfinite(loss) or not (math.isfinite(norm) or fp16)


def too_many_corrupt(corrupt: int, samples: int, share: float) -> bool:
    """Is the true share above `share`, beyond what chance (four deviations of a Poisson count) puts among the first?"""
    expected = share * samples
    return corrupt > max(1.0, expected + 4 * expected**0.5)
