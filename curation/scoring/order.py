"""In which order to try the filters: ascending cost / (1 - pass rate).

For independent filters under short-circuit that order is optimal (predicate migration; Hellerstein and
Stonebraker). Costs and pass rates are measured while scoring. Order may change which scores are missing; it can
never change what is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


class Costs:
    """Running estimates of each filter's seconds an image and pass rate."""

    def __init__(self, names: Sequence[str]):
        self.seconds = dict.fromkeys(names, 0.0)
        self.timed = dict.fromkeys(names, 0)
        self.passed = dict.fromkeys(names, 0)
        self.judged = dict.fromkeys(names, 0)
        self._warm: set[str] = set()

    def note(self, name: str, seconds: float, images: int, passing: np.ndarray) -> None:
        """`seconds` for `images` images; `passing`: bool, verdicts of those that count for the pass rate."""
        if name in self._warm:  # the first call also loads the model: its time says nothing about an image
            self.seconds[name] += seconds
            self.timed[name] += images
        self._warm.add(name)
        self.passed[name] += int(passing.sum())
        self.judged[name] += len(passing)

    def cost(self, name: str) -> float | None:
        """Seconds an image, or None before it was measured."""
        return self.seconds[name] / self.timed[name] if self.timed[name] else None

    def pass_rate(self, name: str) -> float:
        """With one imagined pass and one imagined rejection, so that few images do not say 0 or 1."""
        return (self.passed[name] + 1) / (self.judged[name] + 2)

    def as_dict(self) -> dict[str, Any]:
        return {
            name: {"seconds": self.cost(name), "pass_rate": self.pass_rate(name), "images": self.judged[name]}
            for name in self.seconds
        }


def cheapest_order(costs: Costs, needs: Mapping[str, tuple[str, ...]], default: Sequence[str]) -> list[str]:
    """Filters by ascending cost / (1 - pass rate), each after those that it needs.

    Until every filter was measured: `default`.
    """
    measured = {name: costs.cost(name) for name in default}
    if any(cost is None for cost in measured.values()):
        return list(default)
    rank = {name: cost / (1 - costs.pass_rate(name)) for name, cost in measured.items() if cost is not None}
    order: list[str] = []
    while len(order) < len(rank):
        ready = [n for n in rank if n not in order and all(need in order or need not in rank for need in needs[n])]
        order.append(min(ready, key=lambda name: (rank[name], name)))
    return order
