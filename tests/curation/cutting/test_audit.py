"""The audit lane: a fixed pseudo-random choice of ids, of the size that was asked for."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
import pytest

from curation.cutting.audit import audit_limit, audited

IDS = [hashlib.sha1(str(number).encode()).hexdigest()[:16] for number in range(5000)]
SNAPSHOT = pa.table({"id": IDS})
MASK = (1 << 64) - 1


def key(text: str, seed: int) -> int:
    """splitmix64's finaliser in Python's own integers, as earlier versions computed it."""
    value = (int(text, 16) + (seed + 1) * 0x9E3779B97F4A7C15) & MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize(("share", "minimum", "count"), [(0.1, 0, 500), (0.01, 2000, 2000), (0.0, 0, 0)])
def test_as_many_as_asked_for_and_always_the_same(seed, share, minimum, count):
    limit = audit_limit(SNAPSHOT, share, minimum, seed)
    lane = audited(IDS, seed, limit)
    assert lane.sum() == count
    assert lane.tolist() == [key(text, seed) < limit for text in IDS]


def test_a_small_run_is_audited_whole():
    assert audited(IDS, 0, audit_limit(SNAPSHOT, 0.01, 5000, 0)).all()


def test_another_seed_audits_others():
    lanes = [audited(IDS, seed, audit_limit(SNAPSHOT, 0.1, 0, seed)) for seed in (0, 1)]
    assert not np.array_equal(*lanes)
