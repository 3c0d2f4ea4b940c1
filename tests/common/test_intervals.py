"""Shares with their uncertainty."""

from __future__ import annotations

import numpy as np
import pytest

from common.intervals import Quality, Rate, wilson


def test_wilson():
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson(0, 10) == pytest.approx((0, 0.2775), abs=1e-4)
    assert wilson(0, 0) == (0, 1)
    assert wilson(3, 107) == pytest.approx((0.009580293418, 0.079209475045), abs=1e-12)
    assert str(Rate(9, 10)) == "0.900 [0.60-0.98] 9/10"


def test_quality_counts_only_what_counts():
    said = np.array([True, True, False, False, True])
    truth = np.array([True, False, True, False, True])
    quality = Quality.of(said, truth, np.array([True, True, True, True, False]))
    assert (quality.precision, quality.recall, quality.loss) == (Rate(1, 2), Rate(1, 2), Rate(1, 2))
    assert quality.mistakes == 2
    assert quality.f1 == 0.5
