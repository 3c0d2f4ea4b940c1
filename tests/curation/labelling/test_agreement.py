"""How far two people agree."""

from __future__ import annotations

import pytest

from curation.labelling.agreement import agreements


def answers(words):
    return {f"{number}.jpg": {"keep": word} for number, word in enumerate(words)}


def test_kappa_of_the_textbook():
    """Two readers of 50 proposals: both yes 20, both no 15, apart 5 and 10; chance 0.5, kappa 0.4 (Cohen's measure)."""
    one, other = answers("1" * 25 + "0" * 25), answers("1" * 20 + "0" * 5 + "1" * 10 + "0" * 15)
    (found,) = agreements(one, other, ["keep"])
    assert (found.equal.hits, found.equal.of) == (35, 50) and found.kappa == pytest.approx(0.4)
    assert len(found.apart) == 15 and str(found).startswith(
        "keep: equal 0.700 [0.56-0.81] 35/50, kappa 0.40; apart on "
    )


def test_only_what_both_answered_counts():
    (found,) = agreements(answers(["1", "", "0", "1"]), answers(["1", "1", "1"]), ["keep"])
    assert found.apart == ["2.jpg"] and found.equal.of == 2


def test_chance_alone_says_nothing():
    (same,) = agreements(answers("111"), answers("111"), ["keep"])
    assert same.kappa is None and "kappa" not in str(same)
    (none,) = agreements({}, answers("1"), ["keep"])
    assert str(none) == "keep: no photo that both answered"
