"""A pipeline out of its parts: random ones, pretrained ones with a checkpoint, or a folder that was exported.

Nothing here runs code out of a folder: the classes are this package's.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from model.config import ModelConfig
from model.face_unet import FaceUNet
from model.facemakeup import FaceMakeUp
from model.pipeline import FaceMakeUpPipeline
from model.projector import FaceProjector
from model.tokenizer import clip_tokenizer


def random_pipeline(config: ModelConfig, vocabulary: Path, seed: int = 0) -> FaceMakeUpPipeline:
    """Random weights, the same for the same seed. What it draws is noise: for tests and for trying the program.

    `vocabulary`: CLIP's bpe_simple_vocab_16e6.txt.gz.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = FaceUNet.from_config(config.unet)
        parts = {
            "vae": AutoencoderKL.from_config(config.vae),
            "text_encoder": CLIPTextModel(CLIPTextConfig(**config.text_encoder)),
            "image_encoder": CLIPVisionModelWithProjection(CLIPVisionConfig(**config.image_encoder)),
        }
        trained = FaceMakeUp.around(unet, config)
    scheduler = DDIMScheduler.from_config(config.scheduler)
    return _pipeline(config, trained, tokenizer=clip_tokenizer(vocabulary), scheduler=scheduler, **parts)


def pretrained_pipeline(
    config: ModelConfig,
    base: str | None = None,
    image_encoder: str | None = None,
    vae: str | None = None,
    dtype: torch.dtype = torch.float32,
) -> FaceMakeUpPipeline:
    """Stable Diffusion and CLIP from folders or hub names (default: the configuration's), with an untrained adapter."""
    named = config.pretrained
    if base is None and named is None:
        raise ValueError(f"the configuration {config.name} names no pretrained weights: give a base folder")
    base = base or named.base
    image_encoder = image_encoder or (named and named.image_encoder)
    vae = vae or (named and named.vae)
    if image_encoder is None:
        raise ValueError("the CLIP image encoder is not part of Stable Diffusion: give its folder or hub name")
    unet = FaceUNet.from_pretrained(base, subfolder="unet", torch_dtype=dtype)
    vae_place = {"pretrained_model_name_or_path": vae} if vae else _inside(base, "vae")
    return _pipeline(
        config,
        FaceMakeUp.around(unet, config),
        vae=AutoencoderKL.from_pretrained(**vae_place, torch_dtype=dtype),
        text_encoder=CLIPTextModel.from_pretrained(**_inside(base, "text_encoder"), dtype=dtype),
        tokenizer=CLIPTokenizer.from_pretrained(**_inside(base, "tokenizer")),
        scheduler=DDIMScheduler.from_pretrained(base, subfolder="scheduler", clip_sample=False, set_alpha_to_one=False),
        image_encoder=CLIPVisionModelWithProjection.from_pretrained(image_encoder, dtype=dtype),
    )


def load_pipeline(folder: str | Path, dtype: torch.dtype = torch.float32) -> FaceMakeUpPipeline:
    """An exported folder, with this package's classes; the code inside the folder is not run.

    Raises:
        ValueError: no such folder, or it is not an exported Face-MakeUp pipeline.
    """
    folder = Path(folder)
    index_file = folder / "model_index.json"
    index = json.loads(index_file.read_text()) if index_file.is_file() else {}
    if "projector" not in index:
        raise ValueError(f"{folder}: not an exported Face-MakeUp pipeline (model_index.json names no projector)")
    return FaceMakeUpPipeline(
        vae=AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=dtype),
        text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=dtype),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        unet=FaceUNet.from_pretrained(folder / "unet", torch_dtype=dtype),
        controlnet=ControlNetModel.from_pretrained(folder / "controlnet", torch_dtype=dtype),
        projector=FaceProjector.from_pretrained(folder / "projector", torch_dtype=dtype),
        scheduler=DDIMScheduler.from_pretrained(folder / "scheduler"),
        image_encoder=CLIPVisionModelWithProjection.from_pretrained(folder / "image_encoder", dtype=dtype),
        feature_extractor=CLIPImageProcessor.from_pretrained(folder / "feature_extractor"),
        conditions=index["conditions"],
    )


def trained_parts(pipeline: FaceMakeUpPipeline) -> FaceMakeUp:
    """The pipeline's trainable parts as one module; it shares them."""
    return FaceMakeUp(pipeline.unet, pipeline.controlnet, pipeline.projector)


def _pipeline(config: ModelConfig, trained: FaceMakeUp, **parts: Any) -> FaceMakeUpPipeline:
    side = config.image_encoder["image_size"]
    for part in (trained, *(part for part in parts.values() if isinstance(part, torch.nn.Module))):
        part.eval()
    return FaceMakeUpPipeline(
        **parts,
        unet=trained.unet,
        controlnet=trained.controlnet,
        projector=trained.projector,
        feature_extractor=CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side}),
        conditions=config.conditions.model_dump(),
    )


def _inside(base: str, part: str) -> dict[str, str]:
    return {"pretrained_model_name_or_path": base, "subfolder": part}
