"""Figures with their 90 % intervals, as draws: what follows from several uncertain figures is reckoned draw by draw.

- A share of images (living, kept): Beta(hits + 1/2, misses + 1/2), Jeffreys' interval. A pilot without a single failure
  does not say that there are none.
- A mean over images (bytes): the bootstrap-t, since few images have most of the bytes; where the bootstrap is not
  studentised its 90 % are 75
- What an image costs: the bootstrap over the pieces that a step was measured in.
- A sum over the whole: what the pilot saw counts as it is, and only the rest is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

DRAWS = 2000
# percentiles; a little more than 90 % lie between: of a few hundred skewed values the bootstrap holds less than it says
LOW, HIGH = 4.0, 96.0
BLOCK = 250  # draws at a time: an index of all would be large
LONGEST = 8.0  # standard errors: a resample of a few equal values has next to none
GUESS = 3.0  # a default that was measured on another machine may be this many times too small or too large


@dataclass(frozen=True)
class Span:
    """A figure, and between which two it lies with a probability of 90 %."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, draws: np.ndarray) -> Span:
        """The median of draws, and their percentiles."""
        low, value, high = np.percentile(draws, [LOW, 50.0, HIGH])
        return cls(float(value), float(low), float(high))

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


class Draws:
    """Makes draws, each an array of `DRAWS` floats; the same for the same seed and the same order of calls."""

    def __init__(self, seed: int):
        self._random = np.random.default_rng(seed)

    def constant(self, value: float) -> np.ndarray:
        return np.full(DRAWS, float(value))

    def share(self, hits: int, of: int) -> np.ndarray:
        """Of a share of which `hits / of` were seen."""
        return self._random.beta(hits + 0.5, of - hits + 0.5, DRAWS)

    def ratio(self, values: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Of sum(values) / sum(counts), both drawn together."""
        if not counts.sum():
            return self.constant(0.0)
        draws = np.empty(DRAWS)
        for start in range(0, DRAWS, BLOCK):
            rows = self._random.integers(0, len(values), (min(BLOCK, DRAWS - start), len(values)))
            below = counts[rows].sum(axis=1)
            draws[start : start + BLOCK] = values[rows].sum(axis=1) / np.where(below, below, np.inf)
        return np.where(draws, draws, values.sum() / counts.sum())

    def count(self, population: np.ndarray, seen: int, hits: int) -> np.ndarray:
        """How many of a whole are hits: the hits among the `seen`, and a share of the others."""
        others = np.maximum(0.0, np.round(population - seen))
        share = self.share(hits, seen)
        return hits + self._random.binomial(others.astype(np.int64), share)

    def total(self, count: np.ndarray, values: np.ndarray) -> np.ndarray:
        """The sum of a value over `count` images, of which those with `values` were seen: these count as they are."""
        seen = len(values)
        if not seen:
            return self.constant(0.0)
        others = np.maximum(0.0, count - seen)
        # the mean of m others strays from that of n seen by s * sqrt(1/n + 1/m)
        strays = values.std() * np.sqrt(1 / seen + 1 / np.maximum(1.0, others))
        rest = np.maximum(0.0, values.mean() - self._students(values) * strays)
        return np.where(count >= seen, values.sum() + others * rest, values.mean() * count)

    def _students(self, values: np.ndarray) -> np.ndarray:
        """Of (mean - true mean) / its standard error, by the bootstrap: skewed as the values are."""
        found = np.empty(DRAWS)
        for start in range(0, DRAWS, BLOCK):
            some = values[self._random.integers(0, len(values), (min(BLOCK, DRAWS - start), len(values)))]
            error = some.std(axis=1) / np.sqrt(len(values))
            found[start : start + BLOCK] = (some.mean(axis=1) - values.mean()) / np.where(error, error, np.inf)
        return found.clip(-LONGEST, LONGEST)

    def spread(self, deviation: float) -> np.ndarray:
        """Normal around 0."""
        return deviation * self._random.normal(0.0, 1.0, DRAWS)

    def of_mean(self, values: np.ndarray) -> np.ndarray:
        """Of the mean of what `values` are a sample of."""
        return self.ratio(values, np.ones(len(values)))

    def resample(self, values: np.ndarray, count: int) -> list[float]:
        """So many of them, with replacement."""
        return values[self._random.integers(0, len(values), count)].tolist()

    def weights(self, count: int) -> np.ndarray:
        """float64 (DRAWS, count): how often each of `count` things is drawn, with replacement."""
        return self._random.multinomial(count, np.full(count, 1 / count), DRAWS).astype(np.float64)

    def guess(self, value: float) -> np.ndarray:
        """Of a default: between a third of it and three times as much."""
        return value * np.exp(self._random.normal(0.0, np.log(GUESS) / 1.645, DRAWS))
