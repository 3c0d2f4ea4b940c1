"""What is minimised: pure functions of tensors, named as in the papers. No state, no randomness.

Denoising: Ho et al. 2020 (arXiv 2006.11239); velocity: Salimans and Ho 2022 (2202.00512); min-SNR weights: Hang et al.
2023 (2303.09556).
"""

from __future__ import annotations

import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr


def target_of(
    scheduler: DDPMScheduler, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor
) -> torch.Tensor:
    """What the model has to say, by the scheduler's `prediction_type`: the noise, or the velocity. (B, 4, h, w).

    Raises:
        ValueError: another prediction type.
    """
    kind = scheduler.config.prediction_type
    if kind == "epsilon":
        return noise
    if kind == "v_prediction":
        return scheduler.get_velocity(latents, noise, timesteps)
    raise ValueError(f"scheduler.prediction_type is {kind!r}: take epsilon or v_prediction")


def min_snr_weights(scheduler: DDPMScheduler, timesteps: torch.Tensor, gamma: float | None) -> torch.Tensor:
    """(B,) float32: min(SNR, gamma) / SNR for the noise, / (SNR + 1) for the velocity; 1 without gamma."""
    if gamma is None:
        return torch.ones(len(timesteps), device=timesteps.device)
    snr = compute_snr(scheduler, timesteps).float()
    floor = 1.0 if scheduler.config.prediction_type == "v_prediction" else 0.0
    return snr.clamp(max=gamma) / (snr + floor)


def losses(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean squared error of each sample, in fp32: (B, 4, h, w) twice -> (B,)."""
    return (prediction.float() - target.float()).square().flatten(1).mean(1)


def share_of_step(
    sample_losses: torch.Tensor, weights: torch.Tensor, valid: torch.Tensor, valid_in_step: int, micro_batches: int
) -> torch.Tensor:
    """This micro-batch's share of the step's loss, so that the mean over all its micro-batches is that loss.

    Args:
        sample_losses, weights, valid: (B,); `valid` is 0 for a slot whose sample is corrupt, else 1.
        valid_in_step: valid slots over all ranks and micro-batches of the step.
        micro_batches: how many there are of them, over all ranks: what the engine will divide by.
    """
    return (sample_losses * weights * valid).sum() * (micro_batches / max(valid_in_step, 1))
