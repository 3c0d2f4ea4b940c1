"""How sure a mean is, and a difference, and a rank: pictures of one reference belong together, and so do methods on it.

A method's scores are a matrix of references by prompts, each entry the mean over that reference's and prompt's seeds.
References are drawn again with replacement, all pictures of a reference together; so are the prompts where the mean is to
speak of other prompts than these (Owen 2007, the pigeonhole bootstrap of crossed factors: never too narrow). The draws are
the same for all methods, so a difference between two is paired by reference and prompt.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from common.intervals import wilson

DRAWS = 2000
CHUNK = 200  # draws at a time
LEVEL = 0.95
ANY = (-np.inf, np.inf)
EQUAL = 1e-6  # draws that are nearer to each other are of references with one value: cosines in float32 end there
SIGNS = 6  # references that all differ by the same: fewer have one sign by chance in more than 5 % (2 * 0.5^6 is 3 %)


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval; `n`: the references behind it. NaN with `n` 0; an interval of NaN is not known."""

    value: float
    low: float
    high: float
    n: int

    @property
    def known(self) -> bool:
        return bool(np.isfinite(self.value))

    @property
    def has_interval(self) -> bool:
        return bool(np.isfinite(self.low))

    def may_be(self, number: float) -> bool:
        """Whether it is within noise of a number: an interval that is not known rules nothing out."""
        return not self.has_interval or self.low <= number <= self.high


@dataclass(frozen=True)
class Compared:
    """Methods side by side: each one's mean, and from the same draws what is between them."""

    names: tuple[str, ...]
    means: tuple[Estimate, ...]
    draws: np.ndarray  # float64 (draws, methods): the means of each draw
    bounds: tuple[float, float] = ANY

    def difference(self, one: str, other: str) -> Estimate:
        """`one` less `other`, over the references that both have."""
        a, b = self.names.index(one), self.names.index(other)
        between = self.draws[:, a] - self.draws[:, b]
        n = min(self.means[a].n, self.means[b].n)
        furthest = self.bounds[1] - self.bounds[0]
        value = self.means[a].value - self.means[b].value
        if n >= SIGNS and abs(value) > EQUAL and _are_equal(between[np.isfinite(between)], value):
            return Estimate(value, value, value, n)
        return _estimate(value, between, n, (-furthest, furthest))

    def first(self, higher_is_better: bool = True, among: Collection[str] | None = None) -> dict[str, float]:
        """The share of draws in which a method is the best of those `among` all; of a tie each of the equal ones gets its part."""
        names = [name for name in self.names if among is None or name in among]
        draws = self.draws[:, [self.names.index(name) for name in names]]
        draws = draws if higher_is_better else -draws
        draws = np.where(np.isfinite(draws), draws, -np.inf)
        best = draws.max(axis=1, keepdims=True)
        equal = (draws == best) & np.isfinite(best)
        shares = (equal / np.maximum(equal.sum(axis=1, keepdims=True), 1)).mean(axis=0)
        return dict(zip(names, shares.tolist(), strict=True))


def matrix_of(rows: pd.DataFrame, column: str, references: Sequence[str], prompts: Sequence[str]) -> np.ndarray:
    """float64 (references, prompts): the mean of `column` over seeds; NaN where there is no number.

    `rows`: one a picture, with `reference`, `prompt` and `column`.
    """
    means = rows.groupby(["reference", "prompt"], observed=True)[column].mean().unstack("prompt")
    return means.reindex(index=list(references), columns=list(prompts)).to_numpy(dtype=np.float64)


def compare(
    matrices: Mapping[str, np.ndarray], seed: int = 0, other_prompts: bool = False, draws: int = DRAWS,
    weights: Mapping[str, np.ndarray] | None = None, bounds: tuple[float, float] = ANY,
) -> Compared:  # fmt: skip
    """The mean of each matrix with its interval, all from the same draws of references (and of prompts).

    A mean is that of the pictures that have a number; a reference without any counts for nothing. `weights`: how much each
    number counts, e.g. the votes that it is the mean of; without, all count the same. `bounds`: what a number can be at all.
    """
    if not matrices:
        return Compared((), (), np.empty((draws, 0)))
    first = next(iter(matrices.values()))
    if any(matrix.shape != first.shape for matrix in matrices.values()):
        raise ValueError("the methods' matrices have different references or prompts")
    references, prompts = first.shape
    there = {name: np.isfinite(matrix).astype(np.float64) for name, matrix in matrices.items()}
    if weights is not None:
        there = {name: there[name] * weights[name] for name in matrices}
    numbers = {name: np.nan_to_num(matrix) * there[name] for name, matrix in matrices.items()}
    rng = np.random.default_rng(seed)
    drawn = np.full((draws, len(matrices)), np.nan)
    for start in range(0, draws, CHUNK):
        size = min(CHUNK, draws - start)
        rows = rng.multinomial(references, np.full(references, 1 / references), size).astype(np.float64)
        columns = np.ones((size, prompts))
        if other_prompts:
            columns = rng.multinomial(prompts, np.full(prompts, 1 / prompts), size).astype(np.float64)
        for place, name in enumerate(matrices):
            total = ((rows @ numbers[name]) * columns).sum(axis=1)
            weight = ((rows @ there[name]) * columns).sum(axis=1)
            drawn[start : start + size, place] = np.divide(
                total, weight, out=np.full(size, np.nan), where=weight > 0
            )  # a draw may hold no picture that has a number
    means = []
    for place, name in enumerate(matrices):
        count = there[name].sum()
        value = numbers[name].sum() / count if count else np.nan
        means.append(_estimate(value, drawn[:, place], int((there[name].sum(axis=1) > 0).sum()), bounds))
    return Compared(tuple(matrices), tuple(means), drawn, bounds)


def _estimate(value: float, draws: np.ndarray, n: int, bounds: tuple[float, float]) -> Estimate:
    """The interval by percentiles of the draws, widened for few references as Student's t widens a normal one, as far as
    a mean can be at all."""
    from scipy.stats import norm, t

    known = draws[np.isfinite(draws)]
    if n < 2 or not len(known) or not np.isfinite(value):
        return Estimate(float(value), float("nan"), float("nan"), n)
    if _are_equal(known, value):
        return _of_equal(float(value), n, bounds)
    tail = (1 - LEVEL) / 2
    # a bootstrap takes the spread of the draws for known: sqrt((n-1)/n) too narrow, and a normal's tails
    wider = float(t.ppf(1 - tail, n - 1) / norm.ppf(1 - tail) * np.sqrt(n / (n - 1)))
    low, high = np.quantile(known, [tail, 1 - tail])
    return within(
        Estimate(float(value), float(value - wider * (value - low)), float(value + wider * (high - value)), n), bounds
    )


def _are_equal(draws: np.ndarray, value: float) -> bool:
    return bool(len(draws)) and bool(np.ptp(draws) <= EQUAL * max(1, abs(value)))


def _of_equal(value: float, n: int, bounds: tuple[float, float]) -> Estimate:
    """Of references that all have one value. That none of `n` was seen with another leaves a share of such unseen ones open,
    as large as Wilson's interval says, and they may be anything: of a share this is Wilson's interval of n/n or 0/n."""
    unseen = wilson(0, n)[1]
    low, high = value - unseen * (value - bounds[0]), value + unseen * (bounds[1] - value)
    if not np.isfinite(high - low):
        low = high = float("nan")
    return within(Estimate(value, low, high, n), bounds)


def within(estimate: Estimate, bounds: tuple[float, float]) -> Estimate:
    """With the interval as far as the figure can be at all; its value lies in it, though it be rounded out of bounds."""
    if not estimate.has_interval:
        return estimate
    low, high = max(estimate.low, bounds[0]), min(estimate.high, bounds[1])
    return replace(estimate, low=min(low, estimate.value), high=max(high, estimate.value))
