"""A tiny UNet from scratch: learns what latents of photos look like, from no condition that says anything."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel

from training.tiny_base.fit import Progress, batches_of, fit
from training.tiny_base.recipe import BaseRecipe
from training.tiny_base.vae import latents_of

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
    recipe: BaseRecipe,
    progress: Progress,
) -> list[float]:
    """Train `unet` in place to predict the noise (Ho et al., 2020) in latents of `pictures` and their mirror images.

    Args:
        scheduler: the configuration of the noise.
        pictures: uint8 (N, h, w, 3).
        text: float32 (K, 77, d), hidden states; of each picture in a batch one of them at random.

    Returns:
        the loss of every step, 1 being the square of the noise.
    """
    noise_schedule, batch = DDPMScheduler.from_config(scheduler), recipe.unet_batch
    generator = torch.Generator().manual_seed(recipe.seed)
    # mirrored in pixels: the latents of a mirrored picture are not the mirrored latents
    data = torch.stack([latents_of(vae, each, recipe.seed) for each in (pictures, pictures[:, :, ::-1])])

    def loss_of(chosen: torch.Tensor) -> torch.Tensor:
        latents = data[torch.randint(2, (batch,), generator=generator), chosen]
        noise = torch.randn(latents.shape, generator=generator)
        # spread over the schedule in every batch: the loss is less noisy, its expectation the same
        offset = torch.rand((), generator=generator)
        place = (torch.arange(batch) + torch.rand(batch, generator=generator)) / batch
        timesteps = ((place + offset) % 1 * noise_schedule.config.num_train_timesteps).long()
        states = text[torch.randint(len(text), (batch,), generator=generator)]
        predicted = unet(noise_schedule.add_noise(latents, noise, timesteps), timesteps, states).sample
        return (predicted - noise).square().mean()

    batches = batches_of(len(pictures), batch, recipe.unet_steps, generator)
    return fit(unet, loss_of, batches, recipe.unet_steps, recipe.unet_learning_rate, 0.01, progress)


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
