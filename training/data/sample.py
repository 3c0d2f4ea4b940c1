"""One sample: its bytes -> the tensors that a model is trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import CLIPImageProcessor, CLIPTokenizer

from common.decode import ImageLimits, Undecodable, decode
from common.shard_format import read_array, read_record
from model.conditioning.faces import Face
from model.conditioning.features import clip_pixels
from model.conditioning.views import clip_view, crop_around, pose_view
from model.config import Conditions
from training.data.encodings import KINDS
from training.recipe import ConditionDropout


@dataclass(frozen=True)
class Preparation:
    """What turns a sample into tensors. `size`: pixels; `timesteps`: of the schedule."""

    conditions: Conditions
    size: int
    identity_dim: int
    tokenizer: CLIPTokenizer
    processor: CLIPImageProcessor
    dropout: ConditionDropout
    timesteps: int = 1000
    latent_channels: int = 4
    latent_factor: int = 8


class BrokenSample(ValueError):
    """The bytes of a sample cannot be used."""


def tensors_of(
    ready: Preparation, members: dict[str, bytes], clip: bool = True, pose: bool = True
) -> dict[str, torch.Tensor]:
    """One sample's bytes -> its tensors, named and shaped as a row of a MicroBatch. No randomness.

    Args:
        members: {extension: bytes}. Where the encoder cache's "vae.npy" or "clip.npy" are among them, their values are
            taken, and the picture is decoded only for what is left.
        clip, pose: False where the sample's CLIP features or pose map are dropped: they are not computed.

    Raises:
        BrokenSample: what is wrong with its bytes.
    """
    try:
        record = read_record(members["json"])
        identity = read_array(members["identity.npy"])
        if identity.shape != (ready.identity_dim,) or not np.isfinite(identity).all():
            raise BrokenSample(f"identity of shape {identity.shape}, or not finite")
        face = Face(record["face_box"], np.reshape(record["face_landmarks"], (5, 2)), record["face_score"], identity)
        images = _images(ready, members, record, face, clip, pose)
        caption = members["txt"].decode("utf-8-sig")
    except (Undecodable, ValueError, KeyError, TypeError, OverflowError) as error:
        raise BrokenSample(f"{type(error).__name__}: {error}") from error
    ids = ready.tokenizer(caption, padding="max_length", truncation=True, max_length=ready.tokenizer.model_max_length)
    return {
        **images,
        "identity": torch.from_numpy(identity.astype(np.float32)),
        "input_ids": torch.tensor(ids.input_ids),
    }


def _images(
    ready: Preparation, members: dict[str, bytes], record: dict[str, Any], face: Face, clip: bool, pose: bool
) -> dict[str, torch.Tensor]:
    """`image`, `clip_pixels` and `pose_map`, or what the encoder cache has in their place."""
    conditions, tensors = ready.conditions.model_dump(), {}
    cached = {kind: read_array(members[f"{kind}.npy"]) for kind in KINDS if f"{kind}.npy" in members}
    clip = clip and "clip" not in cached
    if "vae" in cached and not clip:
        crop = crop_around(face, conditions, record["width"], record["height"])
    else:
        rgb = decode(members["jpg"], ImageLimits(), full_size=True).rgb
        height, width = rgb.shape[:2]
        crop = crop_around(face, conditions, width, height)
        image = crop.image(rgb, ready.size) if "vae" not in cached or conditions["clip_view"] == "crop" else None
        if "vae" not in cached:
            tensors["image"] = _planes(image).mul_(2).sub_(1)
        if clip:
            tensors["clip_pixels"] = clip_pixels(ready.processor, [clip_view(rgb, face, conditions, image)])[0]
    if pose:
        tensors["pose_map"] = _planes(pose_view(face, crop, conditions, ready.size))
    return tensors | {KINDS[kind].field: torch.from_numpy(value) for kind, value in cached.items()}


def blank_sample(ready: Preparation, cached: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors in a slot whose sample is broken. `cached`: those of the fields that the encoder cache gives."""
    side = ready.processor.crop_size["height"]
    blank = {
        "pose_map": _zeros(3, ready.size, ready.size),
        "identity": _zeros(ready.identity_dim),
        "input_ids": torch.full((ready.tokenizer.model_max_length,), ready.tokenizer.eos_token_id),
        **cached,
    }
    if "moments" not in cached:
        blank["image"] = _zeros(3, ready.size, ready.size)
    if "clip_states" not in cached:
        blank["clip_pixels"] = _zeros(3, side, side)
    return blank


def _zeros(*shape: int) -> torch.Tensor:
    # a view of one number: it is asked for with every micro-batch, and stacked only where a slot needs it
    return torch.zeros(()).expand(shape)


def _planes(rgb: np.ndarray) -> torch.Tensor:
    # in place: a fresh tensor of this size costs more than the arithmetic
    return torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1))).float().div_(255)
