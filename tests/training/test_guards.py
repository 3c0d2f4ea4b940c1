"""When a run stops by itself: a loss that spikes, and more corrupt samples than chance puts among the first."""

from __future__ import annotations

import pytest
import torch

from training.guards import FIRST, WINDOW, LossSpikeGuard, is_not_finite, too_many_corrupt


def test_a_loss_that_leaves_where_it_was_is_a_spike():
    guard = LossSpikeGuard(3.0)
    spiked = [guard.has_spiked(step, 1.0) for step in range(1, WINDOW + 5)]
    spiked += [guard.has_spiked(step, 9.0) for step in range(WINDOW + 5, WINDOW + 12)]
    assert spiked.index(True) == WINDOW + 4 + 5, "6 of 20 steps at 9 make a mean of more than 3"
    assert guard.lowest == 1.0 and guard.at == FIRST


def test_a_run_that_spikes_at_once_is_measured_by_its_first_steps():
    guard = LossSpikeGuard(3.0)
    spiked = [guard.has_spiked(step, 0.2 if step <= FIRST else 2.0) for step in range(1, WINDOW + 1)]
    assert spiked == [False] * (WINDOW - 1) + [True]


def test_a_noisy_loss_is_no_spike_and_a_resumed_run_knows_what_it_was():
    generator = torch.Generator().manual_seed(0)
    noisy = LossSpikeGuard(3.0)
    assert not any(noisy.has_spiked(step, float(torch.rand((), generator=generator))) for step in range(1, 500))
    resumed = LossSpikeGuard(3.0, lowest=0.1, at=40)
    assert [resumed.has_spiked(step, 1.0) for step in range(1, WINDOW + 1)] == [False] * (WINDOW - 1) + [True]
    assert resumed.facts() == {"lowest_loss": 0.1, "lowest_loss_at": 40}


def test_a_norm_that_is_not_finite_is_normal_in_fp16_only():
    nan, inf = float("nan"), float("inf")
    assert is_not_finite(nan, 1.0, fp16=True) and is_not_finite(0.5, inf, fp16=False)
    assert not is_not_finite(0.5, inf, fp16=True) and not is_not_finite(0.5, 1.0, fp16=False)


@pytest.mark.parametrize(
    ("corrupt", "samples", "stops"),
    [(2, 256, False), (2, 2000, False), (1, 8, False), (12, 2000, True), (1100, 10**6, False), (1200, 10**6, True)],
)
def test_chance_does_not_stop_a_sound_run(corrupt, samples, stops):
    """Allowed is one in a thousand."""
    assert too_many_corrupt(corrupt, samples, 0.001) is stops
