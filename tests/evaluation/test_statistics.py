"""Intervals that hold as often as they say, paired differences, ranks with ties."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from common.intervals import wilson
from evaluation.statistics import compare, matrix_of


def world(rng, references, prompts, reference=1.0, prompt=0.0, noise=1.0):
    """Scores with a true mean of 0: what belongs to a reference, to a prompt, and to a picture alone."""
    return (
        rng.normal(scale=reference, size=(references, 1))
        + rng.normal(scale=prompt, size=(1, prompts))
        + rng.normal(scale=noise, size=(references, prompts))
    )


def coverage(times, other_prompts, **sizes):
    rng = np.random.default_rng(0)
    hits = [
        compare({"a": world(rng, **sizes)}, seed, other_prompts, draws=400).means[0].may_be(0) for seed in range(times)
    ]
    return float(np.mean(hits))


def test_95_percent_means_93_to_97():
    """800 worlds of 200 references; a binomial share of 0.95 scatters by 0.008."""
    assert 0.93 <= coverage(800, False, references=200, prompts=4) <= 0.97


def test_pictures_of_one_reference_are_not_counted_as_independent():
    """Taken for 800 independent pictures the interval would be half as wide, and hold in 70 % of worlds."""
    rng = np.random.default_rng(1)
    scores = world(rng, references=200, prompts=4, noise=0.0)
    told = compare({"a": scores}).means[0]
    assert told.high - told.low > 1.8 * 2 * 1.96 * scores.std() / np.sqrt(scores.size)


def test_that_other_prompts_were_possible_makes_it_wider():
    """With prompts that differ, the interval about these prompts says nothing of others; that about others does."""
    sizes = dict(references=200, prompts=20, prompt=1.0)
    assert coverage(300, False, **sizes) < 0.7
    assert coverage(300, True, **sizes) > 0.9


def test_few_references_are_said_to_be_few():
    assert 0.90 <= coverage(600, False, references=8, prompts=1)
    one = compare({"a": np.ones((1, 3)), "b": np.zeros((1, 3))})
    assert one.means[0].value == 1 and np.isnan(one.means[0].low) and one.means[0].n == 1
    assert one.difference("a", "b").may_be(0), "nothing is ruled out"


@pytest.mark.parametrize(
    ("references", "share"), [(3, 0.5), (3, 0.9), (5, 0.8), (8, 0.5), (8, 0.97), (20, 0.9), (20, 0.97), (60, 0.9)]
)
def test_intervals_of_shares_hold_with_few_references_and_near_the_bounds(references, share):
    rng, hits = np.random.default_rng(0), 0
    for seed in range(200):
        scores = (rng.random((references, 1)) < share).astype(float)
        told = compare({"a": scores}, seed, draws=400, bounds=(0, 1)).means[0]
        assert 0 <= told.low <= told.value <= told.high <= 1
        hits += told.may_be(share)
    assert hits / 200 >= 0.9


def test_that_all_are_equal_is_no_certainty():
    """Of a share Wilson's interval; of any other figure as much of its range; of a figure without bounds nothing is known."""
    told = compare({"a": np.ones((3, 4))}, bounds=(0, 1)).means[0]
    assert (told.low, told.high) == (pytest.approx(wilson(3, 3)[0]), 1.0)
    copies = compare({"a": np.full((50, 1), 1 + 1e-7), "b": np.zeros((50, 1))}, bounds=(-1, 1))
    assert 0.8 < copies.means[0].low < 0.9 and copies.means[0].high == copies.means[0].value
    assert -0.1 < copies.means[1].low < -0.05 and 0.05 < copies.means[1].high < 0.1, "to both sides"
    assert not copies.difference("a", "b").may_be(0)
    assert not compare({"a": np.ones((3, 1))}).means[0].has_interval


def test_three_references_against_three_prove_nothing_and_eight_do():
    """As a sign test has it: 3 of 3 comes by chance in 1 of 4 cases, 8 of 8 in 1 of 128."""
    for references, noise in ((3, True), (8, False)):
        told = compare({"a": np.ones((references, 1)), "b": np.zeros((references, 1))}, bounds=(0, 1))
        assert told.difference("a", "b").may_be(0) is noise


def test_a_difference_is_paired():
    """Two methods that differ by 0.1 on references that differ by 1: neither interval tells them apart, the pair does."""
    rng = np.random.default_rng(2)
    shared = world(rng, references=100, prompts=3, noise=0.0)
    told = compare({"a": shared + 0.1 + rng.normal(scale=0.05, size=shared.shape), "b": shared})
    assert told.means[0].may_be(told.means[1].value)
    difference = told.difference("a", "b")
    assert difference.low > 0.05 and difference.may_be(0.1)
    assert told.first() == {"a": 1.0, "b": 0.0} and told.first(higher_is_better=False)["b"] == 1.0


def test_a_tie_is_shared():
    scores = np.random.default_rng(3).normal(size=(20, 1))
    assert compare({"a": scores, "b": scores, "c": scores - 9}).first() == {"a": 0.5, "b": 0.5, "c": 0.0}
    assert compare({"a": scores, "b": scores}).difference("a", "b").may_be(0)


def test_a_picture_without_a_number_counts_for_nothing_and_a_method_without_any_is_never_first():
    scores = np.array([[1.0, np.nan], [3.0, 5.0], [np.nan, np.nan]])
    told = compare({"a": scores, "none": np.full((3, 2), np.nan)})
    assert told.means[0].value == 3.0 and told.means[0].n == 2
    assert not told.means[1].known and told.first()["none"] == 0.0


def test_seeds_are_averaged_and_what_is_missing_is_no_number():
    rows = pd.DataFrame(
        [("x", "p", 1.0), ("x", "p", 3.0), ("x", "q", 5.0), ("y", "p", np.nan)],
        columns=["reference", "prompt", "score"],
    )
    matrix = matrix_of(rows, "score", ["x", "y", "z"], ["p", "q"])
    np.testing.assert_array_equal(matrix, [[2, 5], [np.nan, np.nan], [np.nan, np.nan]])


def test_the_same_seed_gives_the_same_digits_and_other_shapes_are_refused():
    scores = np.random.default_rng(4).normal(size=(30, 2))
    assert compare({"a": scores}, seed=5).means == compare({"a": scores}, seed=5).means
    with pytest.raises(ValueError, match="different references or prompts"):
        compare({"a": scores, "b": scores[:4]})


@pytest.mark.parametrize(("references", "tells"), [(5, False), (6, True)])
def test_a_difference_that_is_the_same_on_all_references_tells_from_six_on(references, tells):
    """Five of one sign come by chance in 6 % of cases, six in 3 %. Each mean alone is none the surer for it."""
    compared = compare({"best": np.ones((references, 2)), "none": np.zeros((references, 2))}, bounds=(-1, 1))
    assert compared.difference("none", "best").may_be(0) is not tells
    assert compared.means[0].low < 0.5
    assert compare({"a": np.ones((8, 2)), "b": np.ones((8, 2))}).difference("a", "b").may_be(0)
