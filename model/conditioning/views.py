"""The three pictures of a face that the model is trained on or conditioned on: crop, pose map, CLIP view. No torch.

Training and drawing use the same functions, so a face is prepared alike in both.
"""

from dataclasses import dataclass
from typing import Literal, TypedDict

import numpy as np
import PIL.Image
import PIL.ImageOps

from .alignment import align
from .crops import Crop, CropPolicy, crop_of
from .faces import Face
from .pose_map import pose_map

Photo = PIL.Image.Image | np.ndarray


class ViewSettings(TypedDict):
    """Those of `model.config.Conditions` that are used here: exported code and model_index.json have a dictionary."""

    crop: CropPolicy
    crop_factor: float
    clip_view: Literal["aligned", "crop", "whole"]
    align_size: int
    legacy_pose_map: bool


@dataclass(frozen=True)
class FaceViews:
    """uint8 RGB: `image` (size, size, 3), the crop that is trained on; `pose_map` (size, size, 3); `clip_view`."""

    image: np.ndarray
    pose_map: np.ndarray
    clip_view: np.ndarray


def face_views(rgb: np.ndarray, face: Face, settings: ViewSettings, size: int) -> FaceViews:
    """`rgb`: uint8 (h, w, 3), the upright photo; `size`: pixels of the crop and the pose map.

    Raises:
        ValueError: the face's box lies outside the photo, or its points lie in one place.
    """
    height, width = rgb.shape[:2]
    crop = crop_around(face, settings, width, height)
    image = crop.image(rgb, size)
    return FaceViews(image, pose_view(face, crop, settings, size), clip_view(rgb, face, settings, image))


def crop_around(face: Face, settings: ViewSettings, width: int, height: int) -> Crop:
    """The square that is trained on, of a photo of `width` x `height` pixels.

    Raises:
        ValueError: the face's box lies outside the photo.
    """
    return crop_of(face.box, width, height, settings["crop"], settings["crop_factor"])


def pose_view(face: Face, crop: Crop, settings: ViewSettings, size: int) -> np.ndarray:
    """The pose map of the crop, uint8 RGB (size, size, 3); needs no pixel of the photo."""
    if settings["legacy_pose_map"]:
        # the authors drew on the crop before it was resized
        inside, side = face.landmarks - np.float32([crop.left, crop.top]), round(crop.side)
        return pose_map(inside, size, legacy=True, source_size=(side, side))
    return pose_map(crop.points(face.landmarks, size), size)


def clip_view(rgb: np.ndarray, face: Face, settings: ViewSettings, image: np.ndarray | None) -> np.ndarray:
    """What the CLIP encoder sees, uint8 RGB (h, w, 3). `image`: the crop, needed where it is that.

    Raises:
        ValueError: the face's points lie in one place.
    """
    if settings["clip_view"] != "aligned":
        return rgb if settings["clip_view"] == "whole" else image
    aligned = align(rgb, face.landmarks, settings["align_size"])
    if aligned is None:
        raise ValueError("landmarks: the five points lie in one place; the face cannot be aligned")
    return aligned


def upright(photo: Photo) -> np.ndarray:
    """The photo as uint8 RGB (h, w, 3), EXIF orientation applied. An array is returned as it is.

    Raises:
        ValueError: an array of another kind, more than 8 bits a channel, or not a photo (a path, for example).
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
