"""How often a forecast's intervals hold what the whole run has: pilots drawn from its own images."""

from __future__ import annotations

from collections import Counter

import numpy as np

from curation.planning.facts import ImageFacts
from curation.planning.spans import Draws, Span
from curation.planning.yields import yields_of


def truth_of(whole: ImageFacts) -> dict[str, float]:
    """What a finished run has, by the names of `Yields`."""
    return {
        "attempts": whole.attempts.sum(),
        "fetched": whole.fetched.sum(),
        "taken": whole.taken.sum(),
        "kept": whole.kept.sum(),
        "packed": whole.packed.sum(),
        "came": whole.came.sum(),
        "size": whole.size[whole.taken > 0].sum(),
        "kept_size": whole.size[whole.kept > 0].sum(),
        "samples": whole.sample.sum(),
    }


def held(whole: ImageFacts, wanted: int, images: int, seeds: range) -> Counter[str]:
    """By figure, in how many of the seeded pilots of so many images its interval holds the truth."""
    counts: Counter[str] = Counter()
    for seed in seeds:
        rows = np.random.default_rng(seed).choice(len(whole), images, replace=False)
        draws = Draws(seed)
        found = yields_of(whole.of(rows), draws.constant(len(whole)), draws.constant(wanted), draws)
        for name, truth in truth_of(whole).items():
            counts[name] += truth in Span.of(getattr(found, name))
    return counts
