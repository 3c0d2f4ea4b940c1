"""What an order of the filters costs, from recorded costs and verdicts; and the cheapest that there is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np


def cost_of(order: Sequence[str], seconds: Mapping[str, float], rejects: Mapping[str, np.ndarray]) -> float:
    """Seconds an image. `rejects[name]`: bool (images,), what the filter says of each."""
    left, total = np.ones(len(next(iter(rejects.values()))), bool), 0.0
    for name in order:
        total += seconds[name] * left.mean()
        left = left & ~rejects[name]
    return total


def best_order(
    seconds: Mapping[str, float], rejects: Mapping[str, np.ndarray], needs: Mapping[str, Sequence[str]]
) -> list[str]:
    """Of all orders in which a filter comes after what it needs, the cheapest: which images are left depends on which
    filters came before, not on how they were ordered, so the best way to each set of filters is enough."""
    names = sorted(seconds)
    best: dict[frozenset[str], tuple[float, list[str]]] = {frozenset(): (0.0, [])}
    for size in range(1, len(names) + 1):
        for chosen in map(frozenset, combinations(names, size)):
            ways = []
            for last in chosen:
                before = chosen - {last}
                if before in best and all(need in before or need not in seconds for need in needs[last]):
                    left = ~np.any([rejects[name] for name in before], axis=0) if before else np.ones(1, bool)
                    cost, order = best[before]
                    ways.append((cost + seconds[last] * left.mean(), [*order, last]))
            if ways:
                best[chosen] = min(ways)
    return best[frozenset(names)][1]
