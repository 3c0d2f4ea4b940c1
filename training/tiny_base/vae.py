"""A tiny VAE from scratch, in minutes on two cores: good enough that a face can be told from its latents."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL

from training.tiny_base.fit import Progress, batches_of, fit
from training.tiny_base.recipe import BaseRecipe

KL_WEIGHT = 1e-6  # Rombach et al., 2022: enough that latents stay bounded
FIRST_LOGVAR = -6.0  # of the posterior: at the usual 0 its noise drowns the picture for hundreds of steps


def pixels_of(pictures: np.ndarray) -> torch.Tensor:
    """uint8 (N, h, w, 3) -> float32 (N, 3, h, w) in -1..1."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def correlation(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Pearson's r between the pixels of two pictures, all channels together: (N, ...) twice -> (N,).

    nan for a picture of a single value, which correlates with nothing.
    """
    first, second = (each.flatten(1).double() for each in (first, second))
    first, second = (each - each.mean(1, keepdim=True) for each in (first, second))
    return (first * second).sum(1) / (first.norm(dim=1) * second.norm(dim=1))


def new_vae(config: dict[str, Any], seed: int) -> AutoencoderKL:
    """Random weights, the same for the same seed, from which training gets going at once.

    Convolutions keep the variance of what goes through them (He et al., 2015); PyTorch's default thirds it in each, and
    the pictures stay grey for most of a short training.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        vae = AutoencoderKL.from_config(config)
        for module in vae.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_uniform_(module.weight, nonlinearity="linear")
        vae.quant_conv.bias[vae.config.latent_channels :] = FIRST_LOGVAR
    return vae


def train_vae(
    config: dict[str, Any], pictures: np.ndarray, recipe: BaseRecipe, progress: Progress
) -> tuple[AutoencoderKL, list[float]]:
    """Train on `pictures`, uint8 (N, h, w, 3), and their mirror images; loss L1 + squared error + 1e-6 KL.

    Returns:
        the VAE, whose `scaling_factor` gives the latents of `pictures` unit variance; and the loss of every step.
    """
    generator = torch.Generator().manual_seed(recipe.seed)
    vae, data = new_vae(config, recipe.seed), pixels_of(pictures)

    def loss_of(chosen: torch.Tensor) -> torch.Tensor:
        mirror = torch.rand(len(chosen), generator=generator) < 0.5
        pixels = torch.where(mirror[:, None, None, None], data[chosen].flip(3), data[chosen])
        posterior = vae.encode(pixels).latent_dist
        error = vae.decode(posterior.sample(generator)).sample - pixels
        return error.abs().mean() + error.square().mean() + KL_WEIGHT * posterior.kl().mean()

    batches = batches_of(len(data), recipe.vae_batch, recipe.vae_steps, generator)
    losses = fit(vae, loss_of, batches, recipe.vae_steps, recipe.vae_learning_rate, 0.0, progress)
    vae.register_to_config(scaling_factor=1 / latents_of(vae, pictures, recipe.seed, scaled=False).std().item())
    return vae, losses


@torch.no_grad()
def latents_of(
    vae: AutoencoderKL, pictures: np.ndarray, seed: int, scaled: bool = True, batch: int = 64
) -> torch.Tensor:
    """A sample of every picture's posterior: float32 (N, 4, h / 8, w / 8), times `scaling_factor` if `scaled`."""
    generator = torch.Generator().manual_seed(seed)
    drawn = [vae.encode(part).latent_dist.sample(generator) for part in pixels_of(pictures).split(batch)]
    return torch.cat(drawn) * (vae.config.scaling_factor if scaled else 1)


@torch.no_grad()
def reconstructed(vae: AutoencoderKL, pictures: np.ndarray, batch: int = 64) -> torch.Tensor:
    """What is left of `pictures` after the latents: float32 (N, 3, h, w), in -1..1."""
    back = [vae.decode(vae.encode(part).latent_dist.mode()).sample for part in pixels_of(pictures).split(batch)]
    return torch.cat(back).clamp(-1, 1)
