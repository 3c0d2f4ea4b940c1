"""A pipeline out of its parts: random ones, pretrained ones with a checkpoint, or a folder that was exported.

Nothing here runs code out of a folder: the classes are this package's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
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

from model.checkpoints.controlnet_layout import pose_channels_of
from model.checkpoints.state import Checkpoint
from model.config import POSE_CHANNELS, Conditions, ModelConfig
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
        trained = FaceMakeUp.around(
            unet, config.identity_dim, config.image_encoder["hidden_size"], config.lora_rank, config.shortcut,
            config.pose_channels,
        )  # fmt: skip
    scheduler = DDIMScheduler.from_config(config.scheduler)
    return _pipeline(config.conditions, trained, tokenizer=clip_tokenizer(vocabulary), scheduler=scheduler, **parts)


def pretrained_pipeline(
    base: str | Path,
    image_encoder: str | Path | None = None,
    vae: str | Path | None = None,
    *,
    conditions: Conditions,
    checkpoint: Checkpoint | None = None,
    identity_dim: int = 512,
    rank: int = 128,
    shortcut: bool = True,
    pose_channels: Sequence[int] = POSE_CHANNELS,
    dtype: torch.dtype = torch.float32,
    keep_dtypes: bool = False,
) -> FaceMakeUpPipeline:
    """Stable Diffusion, a CLIP image encoder and a VAE from folders or hub names, with a checkpoint's adapter on them.

    Args:
        base: has unet, text_encoder, tokenizer, scheduler; and vae and image_encoder where they are not named.
        checkpoint: None for an untrained adapter of `identity_dim`, `rank`, `shortcut` and `pose_channels`.
        keep_dtypes: each tensor of the checkpoint keeps its own instead of `dtype`: for writing it elsewhere. The
            authors' is of two, and a model of two dtypes cannot be drawn with.

    Raises:
        OSError: a part that is not there, in diffusers' and transformers' words.
        ValueError: the checkpoint does not fit the base, with the keys; or no image encoder is named.
    """
    if image_encoder is None and Path(base).is_dir() and not (Path(base) / "image_encoder").is_dir():
        raise ValueError(
            f"{base}: the CLIP image encoder is no part of Stable Diffusion: give its folder or hub name as "
            "image_encoder, the paper's is laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
        )
    unet = FaceUNet.from_pretrained(base, subfolder="unet", torch_dtype=dtype, adapter=False)
    eyes = CLIPVisionModelWithProjection.from_pretrained(**_place(image_encoder, base, "image_encoder"), dtype=dtype)
    if checkpoint is not None:
        dimensions = checkpoint.dimensions()
        identity_dim, rank = dimensions.identity, dimensions.rank
        if checkpoint.controlnet is not None:
            pose_channels = pose_channels_of(checkpoint.controlnet)
    trained = FaceMakeUp.around(unet, identity_dim, eyes.config.hidden_size, rank, shortcut, pose_channels)
    if checkpoint is not None:
        trained.load(checkpoint, assign=keep_dtypes)
    return _pipeline(
        conditions,
        trained,
        vae=AutoencoderKL.from_pretrained(**_place(vae, base, "vae"), torch_dtype=dtype),
        text_encoder=CLIPTextModel.from_pretrained(base, subfolder="text_encoder", dtype=dtype),
        tokenizer=CLIPTokenizer.from_pretrained(base, subfolder="tokenizer"),
        scheduler=DDIMScheduler.from_pretrained(base, subfolder="scheduler", clip_sample=False, set_alpha_to_one=False),
        image_encoder=eyes,
    )


def pretrained_encoders(
    base: str | Path, image_encoder: str | Path | None = None, vae: str | Path | None = None
) -> tuple[AutoencoderKL, CLIPVisionModelWithProjection, CLIPTokenizer, CLIPImageProcessor]:
    """What looks at pictures, and what prepares for it, in fp32, without the rest of the pipeline: for caching."""
    eyes = CLIPVisionModelWithProjection.from_pretrained(
        **_place(image_encoder, base, "image_encoder"), dtype=torch.float32
    )
    return (
        AutoencoderKL.from_pretrained(**_place(vae, base, "vae"), torch_dtype=torch.float32).eval(),
        eyes.eval(),
        CLIPTokenizer.from_pretrained(base, subfolder="tokenizer"),
        _image_processor(eyes),
    )


def base_parts(
    config: ModelConfig, base: str | None, image_encoder: str | None = None, vae: str | None = None
) -> dict[str, str | None]:
    """Where base, image encoder and VAE come from: what is named here, a local base's own, what the configuration names.

    Raises:
        ValueError: there is no base.
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


def _pipeline(conditions: Conditions, trained: FaceMakeUp, **parts: Any) -> FaceMakeUpPipeline:
    for part in (trained, *(part for part in parts.values() if isinstance(part, torch.nn.Module))):
        part.eval()
    return FaceMakeUpPipeline(
        **parts,
        unet=trained.unet,
        controlnet=trained.controlnet,
        projector=trained.projector,
        feature_extractor=_image_processor(parts["image_encoder"]),
        conditions=conditions.model_dump(),
    )


def _image_processor(encoder: CLIPVisionModelWithProjection) -> CLIPImageProcessor:
    side = encoder.config.image_size
    return CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})


def _place(named: str | Path | None, base: str | Path, part: str) -> dict[str, Any]:
    if named is None:
        return {"pretrained_model_name_or_path": base, "subfolder": part}
    return {"pretrained_model_name_or_path": named}
