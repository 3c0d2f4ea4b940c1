"""Intervals that hold as often as they say, paired differences, ranks with ties."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

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
        compare({"a": world(rng, **sizes)}, seed, other_prompts, draws=400).means[0].contains(0)
        for seed in range(times)
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
    told = compare({"a": np.ones((1, 3))}).means[0]
    assert told.value == 1 and np.isnan(told.low) and told.n == 1


def test_a_difference_is_paired():
    """Two methods that differ by 0.1 on references that differ by 1: neither interval tells them apart, the pair does."""
    rng = np.random.default_rng(2)
    shared = world(rng, references=100, prompts=3, noise=0.0)
    told = compare({"a": shared + 0.1 + rng.normal(scale=0.05, size=shared.shape), "b": shared})
    assert told.means[0].contains(told.means[1].value)
    difference = told.difference("a", "b")
    assert difference.low > 0.05 and difference.contains(0.1)
    assert told.first() == {"a": 1.0, "b": 0.0} and told.first(higher_is_better=False)["b"] == 1.0


def test_a_tie_is_shared():
    scores = np.random.default_rng(3).normal(size=(20, 1))
    assert compare({"a": scores, "b": scores, "c": scores - 9}).first() == {"a": 0.5, "b": 0.5, "c": 0.0}
    assert compare({"a": scores, "b": scores}).difference("a", "b").contains(0)


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
