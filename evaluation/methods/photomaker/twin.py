"""PhotoMaker's file at a tiny size with random weights, the same for the same seed, in the authors' layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPVisionConfig

from evaluation.methods.networks.twins import IDENTITY, RANK, random_tensors
from evaluation.methods.photomaker.encoder import IdEncoder, Perceiver
from evaluation.methods.photomaker.file import CLIP_HEAD, RESAMPLER
from model.projector import to_authors

DEPTH = 4  # of the resampler


def photomaker_file(file: Path, base: Path, version: int, seed: int = 1) -> Path:
    """`base`: a folder of SDXL that it fits."""
    configs = [
        json.loads((base / part / "config.json").read_text()) for part in ("text_encoder", "text_encoder_2", "unet")
    ]
    first, second, unet = configs
    shapes = id_encoder_shapes(first["hidden_size"], second["hidden_size"], version)
    torch.save(
        {"id_encoder": random_tensors(shapes, seed), "lora_weights": random_tensors(lora_shapes(unet), seed + 1)}, file
    )
    return file


def id_encoder_shapes(
    first: int, second: int, version: int, *, width: int = CLIP_HEAD, inner: int = 128, layers: int = 2, side: int = 28,
    vector_inner: int = 96, patch: int = 14,
) -> dict[str, tuple[int, ...]]:  # fmt: skip
    """By the authors' names. `first`, `second`: widths of the text encoders; `width`, `inner`, `layers`, `side`, `patch`: of CLIP."""
    clip = CLIPVisionConfig(
        hidden_size=width, intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=width // CLIP_HEAD,
        patch_size=patch, image_size=side, projection_dim=first,
    )  # fmt: skip
    with torch.device("meta"):
        perceiver = Perceiver(IDENTITY, vector_inner, first + second, width, DEPTH) if version == 2 else None
        state = IdEncoder(clip, second, perceiver).state_dict()
    resampler = {key.removeprefix(RESAMPLER): value for key, value in state.items() if key.startswith(RESAMPLER)}
    named = {key.removeprefix("clip."): value for key, value in state.items() if not key.startswith(RESAMPLER)}
    named |= {
        f"{RESAMPLER}{key.removeprefix('perceiver_resampler.')}": value for key, value in to_authors(resampler).items()
    }
    return {key: tuple(value.shape) for key, value in named.items()}


def lora_shapes(unet: dict[str, Any], rank: int = RANK) -> dict[str, tuple[int, ...]]:
    """Of all attentions, by the names of diffusers' attention processors of the time."""
    with torch.device("meta"):
        model = UNet2DConditionModel.from_config(unet)
    shapes = {}
    for name in model.attn_processors:
        attention = model.get_submodule(name.removesuffix(".processor"))
        layers = {"q": attention.to_q, "k": attention.to_k, "v": attention.to_v, "out": attention.to_out[0]}
        for kind, layer in layers.items():
            shapes[f"unet.{name}.to_{kind}_lora.down.weight"] = (rank, layer.in_features)
            shapes[f"unet.{name}.to_{kind}_lora.up.weight"] = (layer.out_features, rank)
    return shapes
