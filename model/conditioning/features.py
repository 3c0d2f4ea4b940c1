"""The tensors that condition the model on a face; and the CLIP features that stand for "no face"."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import torch
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

from .faces import Face
from .views import FaceViews

Array = TypeVar("Array")  # of numpy or torch

_ZERO_IMAGE: "WeakKeyDictionary[torch.nn.Module, torch.Tensor]" = WeakKeyDictionary()


@dataclass
class FaceConditions:
    """The model's inputs for B faces: `identity` (B, D), `clip_features` (B, S, C), `pose_map` (B, 3, H, W) in 0..1.

    `faces`: as chosen, in pixels of the upright photo; `views`: the pictures of each.
    """

    identity: torch.Tensor
    clip_features: torch.Tensor
    pose_map: torch.Tensor
    faces: list[Face]
    views: list[FaceViews]


def encode_conditions(
    encoder: CLIPVisionModelWithProjection,
    processor: CLIPImageProcessor,
    faces: Sequence[Face],
    views: Sequence[FaceViews],
) -> FaceConditions:
    """Faces with their identity, and their views, as tensors: CLIP features on the encoder's device, the rest on the CPU."""
    identity = torch.from_numpy(np.stack([face.identity for face in faces]))
    features = clip_features(encoder, clip_pixels(processor, [view.clip_view for view in views]))
    maps = torch.from_numpy(np.stack([view.pose_map for view in views])).permute(0, 3, 1, 2).float() / 255
    return FaceConditions(identity, features, maps, list(faces), list(views))


def mix_conditions(first: FaceConditions, second: FaceConditions, alpha: float, renormalise: bool) -> FaceConditions:
    """Identity and CLIP features: (1 - alpha) of the first and alpha of the second. Pose and views are the first's."""
    identity = mix(first.identity, second.identity.expand_as(first.identity), alpha, renormalise)
    features = mix(first.clip_features, second.clip_features.expand_as(first.clip_features), alpha)
    return FaceConditions(identity, features, first.pose_map, first.faces, first.views)


def mix(first: Array, second: Array, alpha: float = 0.5, renormalise: bool = False) -> Array:
    """(1 - alpha) first + alpha second, of identity vectors or image features: numpy or torch, any shape.

    The authors take alpha 0.5 and leave the result shorter than 1; `renormalise` scales the last axis to length 1.

    Raises:
        ValueError: alpha outside 0..1, unequal shapes, or opposite vectors to be renormalised.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha}: take 0 (all first) to 1 (all second)")
    if first.shape != second.shape:
        shapes = f"{tuple(first.shape)} and {tuple(second.shape)}"
        raise ValueError(f"{shapes} cannot be mixed: take both from the same encoder")
    mixed = first * (1 - alpha) + second * alpha
    if not renormalise:
        return mixed
    length = (mixed * mixed).sum(-1, keepdims=True) ** 0.5
    if bool((length == 0).any()):
        raise ValueError(f"at alpha {alpha} the two cancel out: the result cannot be renormalised; take another alpha")
    return mixed / length


def clip_pixels(processor: CLIPImageProcessor, views: Sequence[np.ndarray]) -> torch.Tensor:
    """uint8 RGB pictures of any size -> float32 (B, 3, S, S), resized, cut and normalised as CLIP expects them."""
    return processor(images=list(views), return_tensors="pt").pixel_values


@torch.no_grad()
def clip_features(encoder: CLIPVisionModelWithProjection, pixels: torch.Tensor) -> torch.Tensor:
    """(B, 3, S, S) -> (B, 1 + patches, C): the penultimate hidden states, before the last layer and its norm."""
    pixels = pixels.to(device=encoder.device, dtype=encoder.dtype)
    return encoder(pixels, output_hidden_states=True).hidden_states[-2]


def zero_image_features(encoder: CLIPVisionModelWithProjection) -> torch.Tensor:
    """CLIP features of an all-zero image, (1, 1 + patches, C), computed once for each encoder.

    They are the unconditional ones, in training (where a sample's features are dropped) and in drawing.
    """
    features = _ZERO_IMAGE.get(encoder)
    if features is None or features.dtype != encoder.dtype or features.device != encoder.device:
        size = encoder.config.image_size
        features = clip_features(encoder, torch.zeros(1, 3, size, size))
        _ZERO_IMAGE[encoder] = features
    return features


def repeat_for_prompts(values: torch.Tensor, repeats: int, each: int) -> torch.Tensor:
    """(B, ...) -> (B * repeats * each, ...): the whole batch `repeats` times, then every item `each` times."""
    return values.repeat(repeats, *[1] * (values.ndim - 1)).repeat_interleave(each, dim=0)
