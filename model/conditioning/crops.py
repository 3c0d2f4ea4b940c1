"""The square crop around a face."""

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from PIL import Image

from .checks import check_choice, finite_array
from .faces import Box

CropPolicy = Literal["clip", "pad", "shift", "whole"]


@dataclass(frozen=True)
class Crop:
    """A square of a photo of `width` x `height` pixels, in its pixels; outside the photo it is black."""

    left: float
    top: float
    side: float
    width: int
    height: int

    def image(self, rgb: np.ndarray, size: int) -> np.ndarray:
        """The square resampled to uint8 (size, size, 3).

        `rgb`: uint8 (height, width, 3). Pillow's Lanczos filter: it widens its support when it shrinks (no aliasing),
        and takes a square with fractional corners, so that `points` is exactly this geometry.

        Raises:
            ValueError: a picture of another size or type.
        """
        expected = (self.height, self.width, 3)
        if rgb.shape != expected or rgb.dtype != np.uint8:
            raise ValueError(f"this is the crop of a photo uint8 {expected}; this photo is {rgb.dtype} {rgb.shape}")
        right, bottom = self.left + self.side, self.top + self.side
        border = max(0, math.ceil(max(-self.left, -self.top, right - self.width, bottom - self.height)))
        if border:
            rgb = cv2.copyMakeBorder(rgb, *[border] * 4, cv2.BORDER_CONSTANT, value=(0, 0, 0))
        square = (self.left + border, self.top + border, right + border, bottom + border)
        return np.asarray(Image.fromarray(rgb).resize((size, size), Image.Resampling.LANCZOS, box=square))

    def points(self, xy: np.ndarray, size: int) -> np.ndarray:
        """Photo coordinates (n, 2) in the pixels of `image(rgb, size)`: float32 (n, 2); they may lie outside it."""
        return ((np.asarray(xy, np.float64) - (self.left, self.top)) * (size / self.side)).astype(np.float32)


def crop_of(box: Box | None, width: int, height: int, policy: CropPolicy = "clip", factor: float = 1.5) -> Crop:
    """The square around a face, `factor` times the longer side of its box (x1 y1 x2 y2), in the authors' integers.

    `clip`: as the authors: cut at the photo's edges, of the rest the centre square. `pad`: the whole square, black
    outside the photo. `shift`: moved inside the photo, and made smaller only if it does not fit. `whole`: the centre
    square of the photo; takes no box.

    Raises:
        ValueError: an unknown policy, an empty box, or one whose square does not touch the photo.
    """
    check_choice("policy", policy, CropPolicy)
    if policy == "whole":
        return _centre_square(0, 0, width, height, width, height)
    if box is None:
        raise ValueError(f"the crop policy {policy} needs the box of a face; give one, or take policy 'whole'")
    x1, y1, x2, y2 = finite_array("box", box, (4,)).astype(np.float64).tolist()
    half = factor * max(x2 - x1, y2 - y1) // 2
    if min(x2 - x1, y2 - y1) <= 0 or half < 1:
        raise ValueError(f"the box {[x1, y1, x2, y2]} (x1 y1 x2 y2) is empty: there is no face to crop")
    left, top = math.floor(x1 + (x2 - x1) // 2 - half), math.floor(y1 + (y2 - y1) // 2 - half)
    side = int(2 * half)
    right, bottom = left + side, top + side
    if right <= 0 or bottom <= 0 or left >= width or top >= height:
        where = f"outside the photo of {width} x {height} pixels (upright: EXIF orientation applied)"
        raise ValueError(f"the box {[x1, y1, x2, y2]} (x1 y1 x2 y2) lies {where}; give one inside")
    if policy == "pad":
        if side > factor * 4 * max(width, height):  # its border would take any memory
            raise ValueError(
                f"the box {[x1, y1, x2, y2]} (x1 y1 x2 y2) is no face of a photo of {width} x {height} pixels"
            )
        return Crop(left, top, side, width, height)
    if policy == "shift":
        fitting = min(side, width, height)
        left = min(max(left + (side - fitting) / 2, 0), width - fitting)
        top = min(max(top + (side - fitting) / 2, 0), height - fitting)
        return Crop(left, top, fitting, width, height)
    return _centre_square(max(left, 0), max(top, 0), min(right, width), min(bottom, height), width, height)


def _centre_square(left: int, top: int, right: int, bottom: int, width: int, height: int) -> Crop:
    side = min(right - left, bottom - top)
    return Crop((left + right - side) / 2, (top + bottom - side) / 2, side, width, height)
