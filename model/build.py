"""Builds the pipeline: with random weights, from pretrained parts and a checkpoint, or from an exported folder.

No code of a folder is run: the classes are this package's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

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

from model.config import POSE_CHANNELS, Conditions, ModelConfig
from model.face_unet import FaceUNet
from model.facemakeup import FaceMakeUp
from model.pipeline import FaceMakeUpPipeline
from model.projector import FaceProjector
from model.tokenizer import clip_tokenizer


def random_pipeline(config: ModelConfig, vocabulary: Path, seed: int = 0) -> FaceMakeUpPipeline:
    """A pipeline with random weights, the same for the same seed; it draws noise. For tests and for trying the program.

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
        trained = FaceMakeUp.from_unet(unet, clip_dim=config.image_encoder["hidden_size"], **config.adapter)
    scheduler = DDIMScheduler.from_config(config.scheduler)
    return _pipeline(config.conditions, trained, tokenizer=clip_tokenizer(vocabulary), scheduler=scheduler, **parts)


def pretrained_pipeline(
    base: str | Path,
    image_encoder: str | Path | None = None,
    vae: str | Path | None = None,
    *,
    conditions: Conditions,
    identity_dim: int = 512,
    rank: int = 128,
    shortcut: bool = True,
    pose_channels: Sequence[int] = POSE_CHANNELS,
    dtype: torch.dtype = torch.float32,
) -> FaceMakeUpPipeline:
    """A pipeline of Stable Diffusion, a CLIP image encoder and a VAE, with an untrained adapter.

    With a checkpoint's: model/checkpoints/on_model.py.

    Args:
        base: a folder or hub name with unet, text_encoder, tokenizer, scheduler; and with vae and image_encoder where
            those are None.
        image_encoder, vae: folders or hub names.
        identity_dim, rank, shortcut, pose_channels: of the adapter.

    Raises:
        OSError: a part is not there; the message is diffusers' or transformers'.
        ValueError: there is no image encoder.
    """
    if image_encoder is None and Path(base).is_dir() and not (Path(base) / "image_encoder").is_dir():
        raise ValueError(
            f"{base}: Stable Diffusion has no CLIP image encoder: give its folder or hub name as "
            "image_encoder, the paper's is laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
        )
    unet = FaceUNet.from_pretrained(base, subfolder="unet", torch_dtype=dtype, adapter=False)
    clip = CLIPVisionModelWithProjection.from_pretrained(**_source(image_encoder, base, "image_encoder"), dtype=dtype)
    trained = FaceMakeUp.from_unet(unet, identity_dim, clip.config.hidden_size, rank, shortcut, pose_channels)
    return _pipeline(
        conditions,
        trained,
        vae=AutoencoderKL.from_pretrained(**_source(vae, base, "vae"), torch_dtype=dtype),
        text_encoder=CLIPTextModel.from_pretrained(base, subfolder="text_encoder", dtype=dtype),
        tokenizer=CLIPTokenizer.from_pretrained(base, subfolder="tokenizer"),
        scheduler=DDIMScheduler.from_pretrained(base, subfolder="scheduler", clip_sample=False, set_alpha_to_one=False),
        image_encoder=clip,
    )


def pretrained_encoders(
    base: str | Path, image_encoder: str | Path | None = None, vae: str | Path | None = None
) -> tuple[AutoencoderKL, CLIPVisionModelWithProjection, CLIPTokenizer, CLIPImageProcessor]:
    """VAE, CLIP image encoder, tokenizer and image processor, in fp32, without the rest of the pipeline: for caching."""
    clip = CLIPVisionModelWithProjection.from_pretrained(
        **_source(image_encoder, base, "image_encoder"), dtype=torch.float32
    )
    return (
        AutoencoderKL.from_pretrained(**_source(vae, base, "vae"), torch_dtype=torch.float32).eval(),
        clip.eval(),
        CLIPTokenizer.from_pretrained(base, subfolder="tokenizer"),
        image_processor(clip),
    )


class BaseParts(TypedDict):
    """Folders or hub names, as `pretrained_pipeline` takes them; None: the base has it."""

    base: str
    image_encoder: str | None
    vae: str | None


def base_parts(
    config: ModelConfig, base: str | None, image_encoder: str | None = None, vae: str | None = None
) -> BaseParts:
    """Where base, image encoder and VAE come from: an argument first, then a local base's own, then the configuration.

    Raises:
        ValueError: neither argument nor configuration names a base.
    """
    named = config.pretrained
    base = base or (named and named.base)
    if base is None:
        raise ValueError(f"the model {config.name} names no base: name one (make tiny-base makes one for tiny)")
    has = {part: (Path(base) / part).is_dir() for part in ("image_encoder", "vae")}
    if named:
        image_encoder = image_encoder or (None if has["image_encoder"] else named.image_encoder)
        vae = vae or (None if has["vae"] else named.vae)
    return {"base": base, "image_encoder": image_encoder, "vae": vae}


def load_pipeline(folder: str | Path, dtype: torch.dtype = torch.float32) -> FaceMakeUpPipeline:
    """The pipeline of an exported folder, with this package's classes; the code in the folder is not run.

    Raises:
        ValueError: no such folder, or it is not an exported Face-MakeUp pipeline.
    """
    folder = Path(folder)
    index_file = folder / "model_index.json"
    index = json.loads(index_file.read_text()) if index_file.is_file() else {}
    if "projector" not in index:
        raise ValueError(f"{folder}: not an exported Face-MakeUp pipeline (model_index.json names no projector)")
    pipeline = FaceMakeUpPipeline(
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
    pipeline.register_to_config(_name_or_path=str(folder))  # as diffusers does: the folder's face finder is there
    return pipeline


def trained_parts(pipeline: FaceMakeUpPipeline) -> FaceMakeUp:
    """The pipeline's trainable parts as one module, which shares their tensors."""
    return FaceMakeUp(pipeline.unet, pipeline.controlnet, pipeline.projector)


def _pipeline(conditions: Conditions, trained: FaceMakeUp, **parts: Any) -> FaceMakeUpPipeline:
    for part in (trained, *(part for part in parts.values() if isinstance(part, torch.nn.Module))):
        part.eval()
    return FaceMakeUpPipeline(
        **parts,
        unet=trained.unet,
        controlnet=trained.controlnet,
        projector=trained.projector,
        feature_extractor=image_processor(parts["image_encoder"]),
        conditions=conditions.model_dump(),
    )


def image_processor(encoder: CLIPVisionModelWithProjection) -> CLIPImageProcessor:
    """What makes pixels of pictures for this encoder."""
    side = encoder.config.image_size
    return CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})


def _source(name: str | Path | None, base: str | Path, part: str) -> dict[str, Any]:
    if name is None:
        return {"pretrained_model_name_or_path": base, "subfolder": part}
    return {"pretrained_model_name_or_path": name}
