"""The audit lane: images that go through every filter whatever the verdict, so that pass rates are unbiased."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from curation.run_directory.candidates import id_numbers


def audit_limit(snapshot: pa.Table, share: float, minimum: int, seed: int) -> int:
    """An image is audited where its `audit_key` is below this: the larger of a share and a number of images."""
    count = max(round(share * snapshot.num_rows), minimum)
    if count >= snapshot.num_rows:
        return 1 << 64
    keys = np.sort(_keys(snapshot["id"], seed))
    return int(keys[count]) if count else 0


def audited(ids: Sequence[str] | np.ndarray, seed: int, limit: int) -> np.ndarray:
    """bool (ids,): which of the images are audited."""
    return np.ones(len(ids), bool) if limit > np.iinfo(np.uint64).max else _keys(ids, seed) < np.uint64(limit)


def _keys(ids: Sequence[str] | np.ndarray | pa.ChunkedArray, seed: int) -> np.ndarray:
    """uint64 (ids,): a pseudo-random number of each id and the seed, of nothing else (splitmix64's finaliser)."""
    increment = ((seed + 1) * 0x9E3779B97F4A7C15) & ((1 << 64) - 1)
    with np.errstate(over="ignore"):
        value = id_numbers(ids) + np.uint64(increment)
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return value ^ (value >> np.uint64(31))
