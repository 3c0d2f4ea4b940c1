"""Intervals hold what they promise: over many samples, 90 % of them hold the truth."""

from __future__ import annotations

import numpy as np
import pytest

from curation.planning.spans import Draws, Span

TRIALS = 150


def coverage(hits: list[bool]) -> float:
    return float(np.mean(hits))


@pytest.mark.parametrize("share", [0.02, 0.33, 0.9])
def test_a_count_of_a_large_whole(share: float):
    random, hits = np.random.default_rng(0), []
    for trial in range(TRIALS):
        draws = Draws(trial)
        span = Span.of(draws.count(draws.constant(1e6), 300, int(random.binomial(300, share))))
        hits.append(1e6 * share in span)
    assert 0.84 <= coverage(hits) <= 0.97


def test_a_sum_of_few_large_and_many_small_values():
    """As the bytes of images are; the plain bootstrap holds three in four."""
    random = np.random.default_rng(1)
    whole = random.lognormal(0.0, 1.5, 100_000)
    hits = []
    for trial in range(TRIALS):
        draws = Draws(trial)
        hits.append(whole.sum() in Span.of(draws.total(draws.constant(len(whole)), random.choice(whole, 300))))
    assert 0.84 <= coverage(hits) <= 0.98


def test_what_was_seen_is_not_guessed():
    draws = Draws(0)
    assert Span.of(draws.count(draws.constant(300), 300, 120)) == Span(120, 120, 120)
    values = np.arange(300.0)
    assert Span.of(draws.total(draws.constant(300), values)) == Span(values.sum(), values.sum(), values.sum())
    most = Span.of(draws.count(draws.constant(400), 300, 120))
    assert 120 < most.low < 160 < most.high < 220


def test_no_failure_in_a_pilot_does_not_say_that_there_is_none():
    draws = Draws(0)
    span = Span.of(draws.count(draws.constant(1e6), 300, 300))
    assert span.low < 0.995e6 and span.high <= 1e6


def test_the_same_seed_the_same_draws():
    one, other, third = (Draws(seed).share(30, 100) for seed in (5, 5, 6))
    assert (one == other).all() and not (one == third).all()
