"""The loss is that of the papers, and does not depend on how a step is divided."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDPMScheduler

from model.config import load_config
from training.objective import losses, min_snr_weights, share_of_step, target_of


def scheduler(**changes):
    return DDPMScheduler.from_config({**load_config("tiny").scheduler, **changes})


def test_the_target_is_what_the_scheduler_says():
    latents, noise, timesteps = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.tensor([5, 700])
    assert torch.equal(target_of(scheduler(), latents, noise, timesteps), noise)
    velocity = scheduler(prediction_type="v_prediction")
    alphas = velocity.alphas_cumprod[timesteps].view(2, 1, 1, 1)
    expected = alphas.sqrt() * noise - (1 - alphas).sqrt() * latents
    assert torch.allclose(target_of(velocity, latents, noise, timesteps), expected, atol=1e-6)
    with pytest.raises(ValueError, match="prediction_type"):
        target_of(scheduler(prediction_type="sample"), latents, noise, timesteps)


def test_min_snr_weights_are_capped_where_there_is_little_noise():
    timesteps = torch.arange(1000)
    alphas = scheduler().alphas_cumprod
    snr = alphas / (1 - alphas)
    weights = min_snr_weights(scheduler(), timesteps, 5.0)
    assert torch.allclose(weights, torch.minimum(snr, torch.tensor(5.0)) / snr, rtol=1e-4)
    assert weights[0] < 0.01 and weights[-1] == 1
    velocity = min_snr_weights(scheduler(prediction_type="v_prediction"), timesteps, 5.0)
    assert torch.allclose(velocity, torch.minimum(snr, torch.tensor(5.0)) / (snr + 1), rtol=1e-4)
    assert torch.equal(min_snr_weights(scheduler(), timesteps, None), torch.ones(1000))


def test_the_loss_is_taken_in_fp32():
    prediction, target = torch.full((1, 4, 8, 8), 1e-3).half(), torch.zeros(1, 4, 8, 8).half()
    assert losses(prediction, target).dtype == torch.float32
    assert float(losses(prediction, target)) == pytest.approx(1e-6, rel=1e-2)


def test_a_step_has_one_loss_however_it_is_divided_and_corrupt_slots_do_not_count():
    each, weights = torch.rand(8), torch.rand(8)
    valid = torch.tensor([1, 1, 0, 1, 1, 1, 1, 0.0])
    whole = (each * weights * valid).sum() / valid.sum()
    for parts in (1, 2, 4, 8):
        cut = [tensor.chunk(parts) for tensor in (each, weights, valid)]
        shares = [share_of_step(*triple, int(valid.sum()), parts) for triple in zip(*cut, strict=True)]
        assert torch.allclose(torch.stack(shares).mean(), whole)
    assert float(share_of_step(each, weights, torch.zeros(8), 0, 1)) == 0
