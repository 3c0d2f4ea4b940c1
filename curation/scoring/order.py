"""In which order to try the filters: ascending cost / (1 - pass rate).

For independent filters under short-circuit that order is optimal (predicate migration; Hellerstein and
Stonebraker). Costs and pass rates are measured while scoring. Order may change which scores are missing; it can
never change what is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

TRUSTED = 100  # audited images from which on their pass rate counts for more than that of all others


class Costs:
    """Running estimates of each filter's seconds an image and pass rate.

    What a filter passes of the images that come to it tells soon how much is left behind it, but hides what the filters
    before it took away. Audited images come to it whatever the others say. They are few: their rate takes over slowly.
    """

    def __init__(self, names: Sequence[str]):
        self.seconds = dict.fromkeys(names, 0.0)
        self.timed = dict.fromkeys(names, 0)
        self.passed = dict.fromkeys(names, 0)
        self.judged = dict.fromkeys(names, 0)
        self.passed_audited = dict.fromkeys(names, 0)
        self.judged_audited = dict.fromkeys(names, 0)
        self._warm: set[str] = set()

    def note(self, name: str, seconds: float, passing: np.ndarray, audited: np.ndarray) -> None:
        """`seconds` for all images of a call; `passing`, `audited`: bool (images,), its verdicts, and who is audited."""
        if name in self._warm:  # the first call also loads the model: its time says nothing about an image
            self.seconds[name] += seconds
            self.timed[name] += len(passing)
        self._warm.add(name)
        self.passed[name] += int(passing.sum())
        self.judged[name] += len(passing)
        self.passed_audited[name] += int(passing[audited].sum())
        self.judged_audited[name] += int(audited.sum())

    def cost(self, name: str) -> float | None:
        """Seconds an image, or None before it was measured."""
        return self.seconds[name] / self.timed[name] if self.timed[name] else None

    def pass_rate(self, name: str) -> float:
        """With one imagined pass and one imagined rejection, so that few images do not say 0 or 1."""
        of_all = (self.passed[name] + 1) / (self.judged[name] + 2)
        return (self.passed_audited[name] + TRUSTED * of_all) / (self.judged_audited[name] + TRUSTED)

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
