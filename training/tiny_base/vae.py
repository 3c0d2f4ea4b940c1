"""A tiny VAE from scratch, in minutes on two cores: good enough that a face can be told from its latents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers.optimization import get_cosine_schedule_with_warmup

KL_WEIGHT = 1e-6  # Rombach et al., 2022: enough that latents stay bounded
FIRST_LOGVAR = -6.0  # of the posterior: at the usual 0 its noise drowns the picture for hundreds of steps
Progress = Callable[[int, str], None]


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
    config: dict[str, Any],
    pictures: np.ndarray,
    *,
    steps: int,
    batch: int,
    learning_rate: float,
    seed: int,
    progress: Progress = lambda step, note: None,
) -> tuple[AutoencoderKL, list[float]]:
    """Train on `pictures`, uint8 (N, h, w, 3), and their mirror images; loss L1 + squared error + 1e-6 KL.

    Args:
        config: of AutoencoderKL.
        progress: called with the number of steps done and a note.

    Returns:
        the VAE, whose `scaling_factor` gives the latents of `pictures` unit variance; and the loss of every step.
    """
    generator = torch.Generator().manual_seed(seed)
    vae = new_vae(config, seed)
    optimizer = torch.optim.AdamW(vae.parameters(), learning_rate, betas=(0.9, 0.99), weight_decay=0.0)
    schedule = get_cosine_schedule_with_warmup(optimizer, max(1, steps // 20), steps)
    data, losses = pixels_of(pictures), []
    for step, chosen in enumerate(batches(len(data), batch, steps, generator)):
        pixels = mirrored_at_random(data[chosen], generator)
        posterior = vae.encode(pixels).latent_dist
        error = vae.decode(posterior.sample(generator)).sample - pixels
        loss = error.abs().mean() + error.square().mean() + KL_WEIGHT * posterior.kl().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        progress(step + 1, f"loss {np.mean(losses[-20:]):.3f}")
    vae.eval()
    vae.register_to_config(scaling_factor=1 / latents_of(vae, pictures, seed, scaled=False).std().item())
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


def batches(count: int, batch: int, steps: int, generator: torch.Generator):
    """Indices (batch,) of `steps` batches: each of `count` once before any of them again."""
    waiting = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        while len(waiting) < batch:
            waiting = torch.cat([waiting, torch.randperm(count, generator=generator)])
        chosen, waiting = waiting[:batch], waiting[batch:]
        yield chosen


def mirrored_at_random(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """(B, C, h, w), each mirrored with even odds."""
    mirror = torch.rand(len(pixels), generator=generator) < 0.5
    return torch.where(mirror[:, None, None, None], pixels.flip(3), pixels)
