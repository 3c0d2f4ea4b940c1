"""FID, KID and CMMD against cases with a known answer, and against the formulas written out in another way."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import linalg

from evaluation.metrics.distances import cmmd, frechet_distance, half_samples, kernel_distance


@pytest.fixture
def features():
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(16, 16))
    return rng.normal(size=(300, 16)) @ mix, rng.normal(size=(200, 16)) @ mix + 0.3


def test_identical_sets_are_at_distance_0(features):
    one, _ = features
    shuffled = one[np.random.default_rng(1).permutation(len(one))]
    assert frechet_distance(one, shuffled) == pytest.approx(0, abs=1e-9)
    assert cmmd(one, shuffled) == pytest.approx(0, abs=1e-9)


def test_fid_of_few_pictures_is_0_for_identical_sets_too():
    """A singular covariance: 50 pictures, 64 features. torchmetrics 1.9.0 gives -0.0021 here."""
    rows = np.random.default_rng(2).normal(size=(50, 64))
    assert frechet_distance(rows, rows) == pytest.approx(0, abs=1e-9)


def test_a_shifted_gaussian_is_at_the_square_of_its_shift():
    rng = np.random.default_rng(3)
    rows, shift = rng.normal(size=(400, 8)), np.arange(8) / 4
    assert frechet_distance(rows, rows + shift) == pytest.approx((shift**2).sum(), rel=1e-9)
    assert frechet_distance(rows, 3 * (rows - rows.mean(0)) + rows.mean(0)) == pytest.approx(
        4 * np.trace(np.cov(rows, rowvar=False)), rel=1e-9
    )  # (3 - 1)^2 of the variance


def test_fid_is_the_formula_with_a_matrix_root(features):
    one, other = features
    covariances = [np.cov(rows, rowvar=False) for rows in features]
    root = linalg.sqrtm(covariances[0] @ covariances[1]).real
    expected = ((one.mean(0) - other.mean(0)) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert frechet_distance(one, other) == pytest.approx(expected, rel=1e-6)


def kernel(x, y):
    return (float(np.dot(x, y)) / len(x) + 1) ** 3


def test_kid_is_the_sum_over_pairs(features):
    one, other = features[0][:12], features[1][:9]
    within = np.mean([kernel(a, b) for a, b in itertools.permutations(one, 2)])
    beside = np.mean([kernel(a, b) for a, b in itertools.permutations(other, 2)])
    across = np.mean([kernel(a, b) for a in one for b in other])
    assert kernel_distance(one, other) == pytest.approx(within + beside - 2 * across, rel=1e-6)


def test_kid_is_unbiased_and_fid_of_few_is_mostly_bias():
    """Two sets of one and the same Gaussian: KID is 0 on average, FID is far from it and falls with the number."""
    rng = np.random.default_rng(4)
    draws = [(rng.normal(size=(50, 64)), rng.normal(size=(50, 64))) for _ in range(100)]
    kids = np.array([kernel_distance(*pair) for pair in draws])
    assert abs(kids.mean()) < 4 * kids.std() / np.sqrt(len(kids))
    assert np.mean([frechet_distance(*pair) for pair in draws]) > 30
    many = rng.normal(size=(5000, 64)), rng.normal(size=(5000, 64))
    assert frechet_distance(*many) < 2


def test_cmmd_is_the_authors_formula(features):
    one, other = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in features)

    def gauss(a, b):
        return np.mean([np.exp(-((x - y) ** 2).sum() / 200) for x in a for y in b])

    expected = 1000 * (gauss(one, one) + gauss(other, other) - 2 * gauss(one, other))
    assert cmmd(*features) == pytest.approx(expected, rel=1e-6)


def test_halves_scatter_as_the_whole_figure_does():
    """KID of 200 pictures in 300 worlds scatters as much as the halves of one world say, within a third."""
    rng = np.random.default_rng(5)

    def world():
        return rng.normal(size=(200, 8)), rng.normal(size=(200, 8)) + 0.5

    true = np.std([kernel_distance(*world()) for _ in range(300)])
    owners = np.arange(200), np.arange(200)
    told = np.mean([half_samples(*world(), owners, kernel_distance).std() for _ in range(5)])
    assert 0.67 < told / true < 1.5


def test_pictures_of_a_reference_stay_together_and_few_are_refused():
    rows = np.arange(24.0).reshape(12, 2)
    owners = np.repeat(np.arange(6), 2), np.repeat(np.arange(6), 2)

    def seen(one, other):
        assert len(one) == 6 and (one == other).all() and (one[:, 0] % 4 == 0).sum() == 3
        return 0.0

    assert half_samples(rows, rows, owners, seen, times=9).shape == (9,)
    with pytest.raises(ValueError, match="3 references cannot be halved"):
        half_samples(rows[:6], rows[:6], (owners[0][:6], owners[1][:6]), seen)


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        (np.zeros((1, 4)), np.zeros((3, 4)), "needs two pictures on each side"),
        (np.zeros((3, 4)), np.zeros((3, 5)), r"\(3, 4\) and \(3, 5\)"),
        (np.full((3, 4), np.nan), np.zeros((3, 4)), "not finite"),
    ],
)
def test_what_has_no_distance_is_refused(one, other, words):
    with pytest.raises(ValueError, match=words):
        frechet_distance(one, other)
