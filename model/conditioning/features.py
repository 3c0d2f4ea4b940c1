"""What the model is given of a face, as tensors; and the constant that stands for "no picture"."""

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
    """What the model sees of B faces: `identity` (B, D), `clip_features` (B, S, C), `pose_map` (B, 3, H, W) in 0..1.

    `faces`: as chosen, in pixels of the upright photo; `views`: the pictures that were made of each.
    """

    identity: torch.Tensor
    clip_features: torch.Tensor
    pose_map: torch.Tensor
    faces: list[Face]
    views: list[FaceViews]


def conditions_of(
    encoder: CLIPVisionModelWithProjection,
    processor: CLIPImageProcessor,
    faces: Sequence[Face],
    views: Sequence[FaceViews],
) -> FaceConditions:
    """Faces with their identity, and their views -> tensors, on the encoder's device what it makes, else on the CPU."""
    identity = torch.from_numpy(np.stack([face.identity for face in faces]))
    features = clip_features(encoder, clip_pixels(processor, [view.clip_view for view in views]))
    maps = torch.from_numpy(np.stack([view.pose_map for view in views])).permute(0, 3, 1, 2).float() / 255
    return FaceConditions(identity, features, maps, list(faces), list(views))


def mixed(first: FaceConditions, second: FaceConditions, alpha: float, renormalise: bool) -> FaceConditions:
    """Identity and CLIP features (1 - alpha) of the first and alpha of the second; pose and views are the first's."""
    identity = mix(first.identity, second.identity.expand_as(first.identity), alpha, renormalise)
    features = mix(first.clip_features, second.clip_features.expand_as(first.clip_features), alpha)
    return FaceConditions(identity, features, first.pose_map, first.faces, first.views)


def mix(first: Array, second: Array, alpha: float = 0.5, renormalise: bool = False) -> Array:
    """(1 - alpha) first + alpha second: of identity vectors, or of image features, in numpy or torch, of any shape.

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
        raise ValueError(f"at alpha {alpha} the two cancel out: nothing can be renormalised; take another alpha")
    return mixed / length


def clip_pixels(processor: CLIPImageProcessor, views: Sequence[np.ndarray]) -> torch.Tensor:
    """uint8 RGB pictures of any size -> float32 (B, 3, S, S), resized, cut and normalised as CLIP wants them."""
    return processor(images=list(views), return_tensors="pt").pixel_values


@torch.no_grad()
def clip_features(encoder: CLIPVisionModelWithProjection, pixels: torch.Tensor) -> torch.Tensor:
    """(B, 3, S, S) -> (B, 1 + patches, C): the penultimate hidden states, before the last layer and its norm."""
    pixels = pixels.to(device=encoder.device, dtype=encoder.dtype)
    return encoder(pixels, output_hidden_states=True).hidden_states[-2]


def zero_image_features(encoder: CLIPVisionModelWithProjection) -> torch.Tensor:
    """(1, 1 + patches, C): what the encoder makes of an all-zero input, computed once an encoder.

    The unconditional branch of the model, in training (dropped features) and in drawing.
    """
    known = _ZERO_IMAGE.get(encoder)
    if known is None or known.dtype != encoder.dtype or known.device != encoder.device:
        size = encoder.config.image_size
        known = clip_features(encoder, torch.zeros(1, 3, size, size))
        _ZERO_IMAGE[encoder] = known
    return known


def spread(values: torch.Tensor, repeats: int, each: int) -> torch.Tensor:
    """(B, ...) -> (B * repeats * each, ...): the list repeated, then every item for each picture of its prompt."""
    return values.repeat(repeats, *[1] * (values.ndim - 1)).repeat_interleave(each, dim=0)
