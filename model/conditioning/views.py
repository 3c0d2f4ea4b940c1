"""One face of one photo -> the three pictures that the model learns from or is conditioned on. No torch.

The trainer's loader and the pipeline both go through `face_views`, so what is drawn with is what was trained on.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps

from .alignment import align
from .crops import Crop, crop_of
from .faces import Face
from .pose_map import pose_map

Photo = PIL.Image.Image | np.ndarray


@dataclass(frozen=True)
class FaceViews:
    """uint8 RGB: `image` (size, size, 3), the crop that is trained on; `pose_map` (size, size, 3); `clip_view`."""

    image: np.ndarray
    pose_map: np.ndarray
    clip_view: np.ndarray


def face_views(rgb: np.ndarray, face: Face, how: Mapping[str, Any], size: int) -> FaceViews:
    """`rgb`: uint8 (h, w, 3), the upright photo; `how`: the fields of `model.config.Conditions`.

    Raises:
        ValueError: the face's box lies outside the photo, or its points lie in one place.
    """
    height, width = rgb.shape[:2]
    crop = crop_around(face, how, width, height)
    image = crop.image(rgb, size)
    return FaceViews(image, pose_view(face, crop, how, size), clip_view(rgb, face, how, image))


def crop_around(face: Face, how: Mapping[str, Any], width: int, height: int) -> Crop:
    """The square that is trained on, of a photo of `width` x `height` pixels.

    Raises:
        ValueError: the face's box lies outside the photo.
    """
    return crop_of(face.box, width, height, how["crop"], how["crop_factor"])


def pose_view(face: Face, crop: Crop, how: Mapping[str, Any], size: int) -> np.ndarray:
    """The five points on black, uint8 RGB (size, size, 3): no pixel of the photo is needed for it."""
    if how["legacy_pose_map"]:
        # the authors drew on the crop before it was resized
        inside, side = face.landmarks - np.float32([crop.left, crop.top]), round(crop.side)
        return pose_map(inside, size, legacy=True, source_size=(side, side))
    return pose_map(crop.points(face.landmarks, size), size)


def clip_view(rgb: np.ndarray, face: Face, how: Mapping[str, Any], image: np.ndarray | None) -> np.ndarray:
    """What the CLIP encoder sees, uint8 RGB (h, w, 3). `image`: the crop, where `how` says that it is that.

    Raises:
        ValueError: the face's points lie in one place.
    """
    if how["clip_view"] != "aligned":
        return rgb if how["clip_view"] == "whole" else image
    aligned = align(rgb, face.landmarks, how["align_size"])
    if aligned is None:
        raise ValueError("landmarks: the five points lie in one place; the face cannot be aligned")
    return aligned


def upright(photo: Photo) -> np.ndarray:
    """uint8 RGB (h, w, 3), EXIF orientation applied. An array is taken as it is.

    Raises:
        ValueError: an array of another kind, more than 8 bits a channel, or no photo at all (a path, say).
    """
    if isinstance(photo, np.ndarray):
        if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3:
            raise ValueError(f"photo: an array must be uint8 RGB (h, w, 3), this one is {photo.dtype} {photo.shape}")
        return photo
    if not isinstance(photo, PIL.Image.Image):
        raise ValueError(f"photo: {type(photo).__name__} is neither a PIL image nor an array; open the file first")
    if photo.mode.startswith(("I", "F")):
        raise ValueError(f"photo: mode {photo.mode} has more than 8 bits, which Pillow would clip; convert it first")
    return np.array(PIL.ImageOps.exif_transpose(photo).convert("RGB"))
