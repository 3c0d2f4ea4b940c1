"""Folders that conversion reads or leaves: an exported pipeline's trained parts, a stock base model."""

from __future__ import annotations

import json

import torch
from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from model.checkpoints.state import bit_equal
from model.config import load_config
from model.face_unet import FaceUNet
from model.projector import FaceProjector
from tests.model.checkpoints import foreign

TINY = foreign.TINY
CONDITIONS = {"identity_encoder": "dlib", "align_size": 112, "channel_order": "rgb"}


def assert_same(one, other):
    assert one.parts.keys() == other.parts.keys()
    for part, tensors in one.parts.items():
        assert tensors.keys() == other.parts[part].keys()
        changed = [key for key, value in tensors.items() if not bit_equal(value, other.parts[part][key])]
        assert not changed, f"{part}: {changed[:3]}"


def pipeline_folder(checkpoint, folder):
    """What the pipeline's `save_pretrained` leaves of the trained parts."""
    unet = FaceUNet.from_config(foreign.TINY_UNET).attach(TINY.rank)
    unet.load_ip_adapter_state(checkpoint.ip_adapter, assign=True)
    unet.save_pretrained(folder / "unet")
    projector = FaceProjector(TINY.identity, TINY.clip, TINY.token, shortcut=checkpoint.shortcut)
    projector.load_image_proj_state(checkpoint.image_proj, assign=True)
    projector.save_pretrained(folder / "projector")
    controlnet = ControlNetModel.from_unet(UNet2DConditionModel(**foreign.TINY_UNET))
    controlnet.load_state_dict(checkpoint.controlnet)
    controlnet.save_pretrained(folder / "controlnet")
    (folder / "model_index.json").write_text(json.dumps({"conditions": CONDITIONS}))
    return folder


def stock_base(folder):
    """A tiny Stable Diffusion in diffusers' own layout, with a vocabulary of letters, and a CLIP image encoder."""
    config = load_config("tiny")
    torch.manual_seed(0)
    words = [c + end for c in "abcdefghijklmnopqrstuvwxyz" for end in ("", "</w>")] + [
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    text = config.text_encoder | {
        "vocab_size": len(words),
        "bos_token_id": len(words) - 2,
        "eos_token_id": len(words) - 1,
    }
    StableDiffusionPipeline(
        vae=AutoencoderKL.from_config(config.vae),
        text_encoder=CLIPTextModel(CLIPTextConfig(**text)),
        tokenizer=CLIPTokenizer(vocab={w: n for n, w in enumerate(words)}, merges=[], model_max_length=77),
        unet=UNet2DConditionModel(**config.unet),
        scheduler=DDIMScheduler.from_config(config.scheduler),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    CLIPVisionModelWithProjection(CLIPVisionConfig(**config.image_encoder)).save_pretrained(folder / "image_encoder")
    return folder
