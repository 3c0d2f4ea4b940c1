"""The training loop that the VAE and the UNet of a tiny base share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from diffusers.optimization import get_cosine_schedule_with_warmup

Progress = Callable[[int, str], None]  # steps done, note


def fit(
    network: torch.nn.Module,
    loss_of: Callable[[torch.Tensor], torch.Tensor],
    batches: Iterator[torch.Tensor],
    steps: int,
    lr: float,
    weight_decay: float,
    progress: Progress,
) -> list[float]:
    """Train `network` in place on `steps` batches of indices, whose loss is `loss_of(indices)`; the loss of every step."""
    optimizer = torch.optim.AdamW(network.parameters(), lr, betas=(0.9, 0.99), weight_decay=weight_decay)
    schedule = get_cosine_schedule_with_warmup(optimizer, max(1, steps // 20), steps)
    losses: list[float] = []
    network.train()
    for step, chosen in enumerate(batches, start=1):
        loss = loss_of(chosen)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        progress(step, f"loss {np.mean(losses[-20:]):.3f}")
    network.eval()
    return losses


def batches_of(count: int, batch: int, steps: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Indices (batch,) of `steps` batches: each of `count` once before any of them again."""
    waiting = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        while len(waiting) < batch:
            waiting = torch.cat([waiting, torch.randperm(count, generator=generator)])
        chosen, waiting = waiting[:batch], waiting[batch:]
        yield chosen
