"""A tiny UNet from scratch: learns what latents of photos look like, from no condition that says anything."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, UNet2DConditionModel
from diffusers.optimization import get_cosine_schedule_with_warmup

from training.tiny_base.vae import Progress, batches, latents_of

DECILES = 10


def new_unet(config: dict[str, Any], seed: int) -> UNet2DConditionModel:
    """Random weights, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return UNet2DConditionModel.from_config(config)


def train_unet(
    unet: UNet2DConditionModel,
    vae: AutoencoderKL,
    scheduler: dict[str, Any],
    pictures: np.ndarray,
    text: torch.Tensor,
    *,
    steps: int,
    batch: int,
    learning_rate: float,
    seed: int,
    progress: Progress = lambda step, note: None,
) -> list[float]:
    """Train `unet` in place to predict the noise (Ho et al., 2020) in latents of `pictures` and their mirror images.

    Args:
        scheduler: the configuration of the noise.
        pictures: uint8 (N, h, w, 3).
        text: float32 (K, 77, d), hidden states; of each picture in a batch one of them at random.

    Returns:
        the loss of every step, 1 being the square of the noise.
    """
    noise_schedule = DDPMScheduler.from_config(scheduler)
    generator = torch.Generator().manual_seed(seed)
    # mirrored in pixels: the latents of a mirrored picture are not the mirrored latents
    data = torch.stack([latents_of(vae, pictures, seed), latents_of(vae, pictures[:, :, ::-1], seed)])
    optimizer = torch.optim.AdamW(unet.parameters(), learning_rate, betas=(0.9, 0.99), weight_decay=0.01)
    schedule = get_cosine_schedule_with_warmup(optimizer, max(1, steps // 20), steps)
    losses = []
    unet.train()
    for step, chosen in enumerate(batches(len(pictures), batch, steps, generator)):
        latents = data[torch.randint(2, (batch,), generator=generator), chosen]
        noise = torch.randn(latents.shape, generator=generator)
        # spread over the schedule in every batch: the loss is less noisy, its expectation the same
        offset = torch.rand((), generator=generator)
        place = (torch.arange(batch) + torch.rand(batch, generator=generator)) / batch
        timesteps = ((place + offset) % 1 * noise_schedule.config.num_train_timesteps).long()
        states = text[torch.randint(len(text), (batch,), generator=generator)]
        predicted = unet(noise_schedule.add_noise(latents, noise, timesteps), timesteps, states).sample
        loss = (predicted - noise).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        progress(step + 1, f"loss {np.mean(losses[-20:]):.3f}")
    unet.eval()
    return losses


@torch.no_grad()
def loss_by_decile(
    unet: UNet2DConditionModel,
    vae: AutoencoderKL,
    scheduler: dict[str, Any],
    pictures: np.ndarray,
    text: torch.Tensor,
    seed: int,
) -> list[float]:
    """Mean squared error of the noise in each tenth of the timesteps, low noise first; 1 is what predicting zero costs.

    The noise and the timesteps hang on `seed` alone: two UNets are asked the same. `text`: (K, 77, d), taken in turn.
    """
    noise_schedule = DDPMScheduler.from_config(scheduler)
    generator = torch.Generator().manual_seed(seed)
    latents = latents_of(vae, pictures, seed)
    text = text[torch.arange(len(latents)) % len(text)]
    tenth = noise_schedule.config.num_train_timesteps // DECILES
    losses = []
    for decile in range(DECILES):
        timesteps = torch.randint(tenth * decile, tenth * (decile + 1), (len(latents),), generator=generator)
        noise = torch.randn(latents.shape, generator=generator)
        predicted = unet(noise_schedule.add_noise(latents, noise, timesteps), timesteps, text).sample
        losses.append(((predicted - noise).square().mean() / noise.square().mean()).item())
    return losses


@torch.no_grad()
def drawn(
    unet: UNet2DConditionModel,
    vae: AutoencoderKL,
    scheduler: dict[str, Any],
    text: torch.Tensor,
    count: int,
    seed: int,
    steps: int = 25,
) -> torch.Tensor:
    """Pictures out of nothing (DDIM, Song et al., 2020): float32 (count, 3, h, w) in -1..1. `text`: (1, 77, d)."""
    sampler = DDIMScheduler.from_config(scheduler)
    sampler.set_timesteps(steps)
    side = unet.config.sample_size
    shape = (count, unet.config.in_channels, side, side)
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * sampler.init_noise_sigma
    text = text.expand(count, -1, -1)
    for timestep in sampler.timesteps:
        predicted = unet(sampler.scale_model_input(latents, timestep), timestep, text).sample
        latents = sampler.step(predicted, timestep, latents).prev_sample
    return vae.decode(latents / vae.config.scaling_factor).sample.clamp(-1, 1)
