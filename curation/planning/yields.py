"""From the facts of a pilot's images to those of the whole: how many are fetched, taken, kept, and their bytes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from curation.planning.facts import ImageFacts
from curation.planning.spans import Draws


@dataclass(frozen=True)
class Yields:
    """Draws, one float64 array each. `living`: the share of links that give an image. Bytes: that `came` over the network, of the
    images that are `stored` in tars, of those that are taken (`size`) and kept (`kept_size`), and of the shards (`samples`)."""

    selected: np.ndarray
    attempts: np.ndarray
    living: np.ndarray
    fetched: np.ndarray
    taken: np.ndarray
    kept: np.ndarray
    packed: np.ndarray
    came: np.ndarray
    stored: np.ndarray
    size: np.ndarray
    kept_size: np.ndarray
    samples: np.ndarray


def yields_of(pilot: ImageFacts, selected: np.ndarray, wanted: np.ndarray | None, draws: Draws) -> Yields:
    """What to expect of `selected` images, of which `pilot` are a random part.

    Args:
        selected: draws of how many images are fetched.
        wanted: draws of how many are taken at most; None: all that are fetched.
    """
    got = np.flatnonzero(pilot.fetched)
    fetched = draws.count(selected, len(pilot), len(got))
    taken = fetched if wanted is None else np.minimum(fetched, wanted)
    # what is over is cut back from the end of the ranks, here as in the whole
    share = float(np.median(taken / np.maximum(1.0, fetched)))
    best = pilot.of(got[np.argsort(pilot.rank[got], kind="stable")][: round(share * len(got))])
    kept = draws.count(taken, len(best), int(best.kept.sum()))
    packed = draws.count(kept, int(best.kept.sum()), int(best.packed.sum()))
    return Yields(
        selected=selected,
        attempts=draws.total(selected, pilot.attempts),
        living=fetched / np.maximum(1.0, selected),
        fetched=fetched,
        taken=taken,
        kept=kept,
        packed=packed,
        came=draws.total(selected, pilot.came),
        stored=draws.total(fetched, pilot.size[got]),
        size=draws.total(taken, best.size),
        kept_size=draws.total(kept, best.size[best.kept > 0]),
        samples=draws.total(packed, best.sample[best.packed > 0]),
    )
