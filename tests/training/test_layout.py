"""Layouts that do not see the run's order are refused, with what would do."""

from __future__ import annotations

import re

import pytest

from training.layout import check_layout

GOOD = {"batch": 48, "micro": 4, "accumulation": 3, "world": 4, "lanes": 8, "samples": 1000}


def test_a_good_layout_is_silent():
    assert check_layout(**GOOD) is None


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"samples": 47}, "47 samples do not fill one batch of 48: set batch to 47 or less"),
        ({"lanes": 7, "world": 1, "accumulation": 12}, "7 lanes do not divide a batch of 48: set lanes to 6 or 8, or batch to 42 or 49"),
        ({"world": 3, "accumulation": 4}, "a world of 3 does not divide 8 lanes: start 2 or 4 ranks (allowed: 1, 2, 4)"),
        ({"world": 16, "lanes": 8}, "a world of 16 does not divide 8 lanes: start 4 ranks (allowed: 1, 2, 4)"),
        ({"accumulation": 2}, "micro 4 x accumulation 2 x world 4 = 32 is not the batch of 48: set accumulation to 3"),
        ({"micro": 5}, "micro 5 x accumulation 3 x world 4 = 60 is not the batch of 48: set micro to 4 or 6 (accumulation follows)"),
        ({"micro": 0, "world": -1}, "micro is 0; the least is 1; world is -1; the least is 1"),
        ({"lanes": 7, "samples": 3, "world": 5}, "set batch to 3 or less; 7 lanes do not divide a batch of 48: set lanes to 6 or 8, or batch to 42 or 49; a world of 5"),
    ],
)  # fmt: skip
def test_another_layout_is_refused_with_what_would_do(changed, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        check_layout(**GOOD | changed)


def test_the_remedies_are_good_layouts():
    check_layout(**GOOD | {"lanes": 6, "world": 2, "accumulation": 6})
    check_layout(**GOOD | {"world": 2, "accumulation": 6})
    check_layout(**GOOD | {"micro": 6, "accumulation": 2})
