"""Shares with their uncertainty, and how good a yes/no decision is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

CONFIDENCE = math.erf(1.96 / math.sqrt(2))  # 95 %, by the usual z of 1.96


def wilson(hits: int, of: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of the share `hits / of`; all of [0, 1] where `of` is 0."""
    from scipy.stats import binomtest  # a second to import, which commands that print no interval need not wait for

    if not of:
        return 0.0, 1.0
    interval = binomtest(hits, of).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


@dataclass(frozen=True)
class Rate:
    """A share with its 95 % interval; prints as `0.900 [0.60-0.98] 9/10`."""

    hits: int
    of: int

    @property
    def value(self) -> float:
        return self.hits / self.of if self.of else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.hits, self.of)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.3f} [{low:.2f}-{high:.2f}] {self.hits}/{self.of}" if self.of else "-"


@dataclass(frozen=True)
class Quality:
    """A yes/no decision against the truth; `None` in the truth does not count."""

    precision: Rate
    recall: Rate
    loss: Rate

    @classmethod
    def of(cls, said: np.ndarray, truth: np.ndarray, counts: np.ndarray) -> Quality:
        said, truth = said[counts], truth[counts]
        hits = int((said & truth).sum())
        return cls(
            Rate(hits, int(said.sum())),
            Rate(hits, int(truth.sum())),
            Rate(int((said & ~truth).sum()), int((~truth).sum())),
        )

    @property
    def f1(self) -> float:
        total = self.precision.of + self.recall.of
        return 2 * self.precision.hits / total if total else math.nan

    @property
    def mistakes(self) -> int:
        """Good photos thrown away and bad ones let through, together."""
        return self.loss.hits + self.recall.of - self.recall.hits
