"""How alike two feature vectors are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def cosine(one: Sequence[float] | None, other: Sequence[float] | None) -> float | None:
    """Of two vectors, in float64; None where one of them is not there."""
    if one is None or other is None:
        return None
    a, b = np.asarray(one, np.float64), np.asarray(other, np.float64)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
