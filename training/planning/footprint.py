"""Bytes of training: of what may be cached an image, of what a rank holds, of what it sends. Arithmetic only."""

from __future__ import annotations

from model.config import ModelConfig
from training.planning.flops import LATENT_FACTOR

BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}


def moments_bytes(config: ModelConfig, dtype: str) -> int:
    """Of one image: means and standard deviations, (8, H/8, W/8) for Stable Diffusion."""
    return 2 * config.vae["latent_channels"] * (config.resolution // LATENT_FACTOR) ** 2 * BYTES[dtype]


def clip_bytes(config: ModelConfig, dtype: str) -> int:
    """Of one image: the penultimate hidden states, (1 + patches, C)."""
    encoder = config.image_encoder
    return ((encoder["image_size"] // encoder["patch_size"]) ** 2 + 1) * encoder["hidden_size"] * BYTES[dtype]


def text_bytes(config: ModelConfig, dtype: str) -> int:
    """Of one caption: the hidden states, (77, d)."""
    return config.text_encoder["max_position_embeddings"] * config.text_encoder["hidden_size"] * BYTES[dtype]


def memory_per_rank(trained: int, ranks: int, stage: int, dtype: str, ema: bool) -> float:
    """Bytes of trained parameters, their gradients and AdamW, without activations and offload.

    ZeRO (arXiv 1910.02054), section 3.1: 2 + 2 + 12 bytes a parameter in mixed precision; 4 + 4 + 8 in fp32. EMA is
    another 4, divided among the ranks as the moments are.
    """
    weights = gradients = BYTES[dtype]
    states = (12 if BYTES[dtype] == 2 else 8) + (4 if ema else 0)
    divided = {0: 0, 1: states, 2: states + gradients, 3: states + gradients + weights}[stage]
    return trained * (weights + gradients + states - divided + divided / ranks)


def traffic_per_step(trained: int, frozen: int, ranks: int, stage: int, dtype: str, passes: int) -> float:
    """Bytes a rank sends in a step of `passes` micro-batches, by ring collectives.

    Stages 2 and 3 reduce gradients in every pass, 0 and 1 in the last; stage 3 also gathers all parameters, `frozen`
    ones too, for each forward and backward pass.
    """
    share = (ranks - 1) / ranks * BYTES[dtype]
    reduced = trained * (passes if stage >= 2 else 1)
    gathered = 2 * passes * (trained + frozen) if stage == 3 else trained
    return share * (reduced + gathered)
