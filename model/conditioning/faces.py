"""Faces, and the pictures that the model is conditioned on: crop, pose map, aligned face. numpy, cv2 and Pillow only.

One convention for all coordinates: they are continuous, (0, 0) is the upper left corner of the upper left pixel, and
pixel (i, j) covers [i, i+1) x [j, j+1). So a point lies in the pixel of its integer part, and a resize by r multiplies
coordinates by r. Points are rows of (x, y): left eye, right eye, nose, left and right corner of the mouth, as seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

import cv2
import numpy as np
from PIL import Image

ChoicePolicy = Literal["only", "largest", "highest_score", "match_box"]
CropPolicy = Literal["clip", "pad", "shift", "whole"]
Box = Sequence[float] | np.ndarray  # x1 y1 x2 y2
Array = TypeVar("Array")  # of numpy or torch

# insightface's `arcface_dst`: where the five points go in a 112-pixel face
TEMPLATE_112 = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32
)
POSE_CANVAS = 512  # pixels: what the authors train at, and what strokes are measured in
POSE_COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255))  # RGB, one a point
NOSE, LIMB_HALF_WIDTH, POINT_RADIUS, LIMB_BRIGHTNESS = 2, 4, 10, 0.6
FARTHEST = 100_000.0  # pixels outside a canvas; beyond, drawing would overflow OpenCV's integers


class NoFaceError(ValueError):
    """There is no face to work with."""


class SeveralFacesError(ValueError):
    """There are several faces, and nothing says which one is meant."""


@dataclass(frozen=True, eq=False)
class Face:
    """A detected face, in pixels of the upright photo.

    `box`: float32 (4,), x1 y1 x2 y2; `landmarks`: float32 (5, 2); `score`: the detector's confidence, 0..1;
    `identity`: float32 (D,), or None where it was not embedded.

    Raises:
        ValueError: an array of another shape, or with a number that is not finite.
    """

    box: np.ndarray
    landmarks: np.ndarray
    score: float
    identity: np.ndarray | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "box", _finite("box", self.box, (4,)))
        object.__setattr__(self, "landmarks", _finite("landmarks", self.landmarks, (5, 2)))
        if self.identity is not None:
            object.__setattr__(self, "identity", _finite("identity", self.identity, (np.size(self.identity),)))

    @property
    def area(self) -> float:
        """Of the box, in square pixels."""
        return _area(self.box)


def choose_face(faces: Sequence[Face], policy: ChoicePolicy, box: Box | None = None, where: str = "") -> Face:
    """One face of a photo. `box` (x1 y1 x2 y2): for `match_box`, which takes the face of the highest IoU with it.

    Ties go to the higher score, then to the larger, the leftmost and the uppermost box: the order of `faces` does not
    count. `where` names the photo in errors.

    Raises:
        NoFaceError: no face, or with `match_box` none that overlaps the box.
        SeveralFacesError: several, with `only`.
        ValueError: an unknown policy, or `match_box` without a box.
    """
    _known("policy", policy, ChoicePolicy)
    place = f"{where}: " if where else ""
    if policy == "match_box" and box is None:
        raise ValueError(f"{place}the policy match_box needs a box (x1, y1, x2, y2) to match; give one")
    target = None if box is None else _finite("box", box, (4,))
    if not faces:
        raise NoFaceError(f"{place}no face was found; take a photo where one face is seen from the front and not tiny")
    if policy == "only" and len(faces) > 1:
        choices = "choose by 'largest', 'highest_score' or 'match_box' (with a box), or cut the photo to one face"
        raise SeveralFacesError(f"{place}{len(faces)} faces were found and the policy is 'only'; {choices}")
    measures = {"largest": lambda face: face.area, "match_box": lambda face: _iou(face.box, target)}
    measure = measures.get(policy, lambda face: face.score)
    best = max(faces, key=lambda face: (measure(face), face.score, face.area, *(-face.box).tolist()))
    if policy == "match_box" and measure(best) == 0:
        boxes = [face.box.round().astype(int).tolist() for face in faces]
        raise NoFaceError(f"{place}no face overlaps the box {target.tolist()}; give one of {boxes}")
    return best


@dataclass(frozen=True)
class Crop:
    """A square of a photo of `width` x `height` pixels, in its pixels; what it has outside the photo is black."""

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
        wanted = (self.height, self.width, 3)
        if rgb.shape != wanted or rgb.dtype != np.uint8:
            raise ValueError(f"this is the crop of a photo uint8 {wanted}; the one given is {rgb.dtype} {rgb.shape}")
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
    _known("policy", policy, CropPolicy)
    if policy == "whole":
        return _centre_square(0, 0, width, height, width, height)
    if box is None:
        raise ValueError(f"the crop policy {policy} needs the box of a face; give one, or take policy 'whole'")
    x1, y1, x2, y2 = _finite("box", box, (4,)).astype(np.float64).tolist()
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


def pose_map(
    points: np.ndarray, size: int, legacy: bool = False, source_size: tuple[int, int] | None = None
) -> np.ndarray:
    """The five points as a stick drawing on black (InstantID's, which the authors use): uint8 RGB (size, size, 3).

    `points`: (5, 2), in pixels of the size x size picture. They are drawn on a canvas of 512, then resized: strokes
    are as thick, relative to the picture, whatever its size. `legacy`: as the authors drew for training: `points` and
    strokes in pixels of the source picture of `source_size` (width, height), whose shorter side is then resized to
    `size` and whose centre is taken, so that a face of a large photo has thin sticks. What falls outside is not drawn.

    Raises:
        ValueError: points of another shape or not finite; `legacy` without `source_size`, or that without `legacy`.
    """
    points = _finite("landmarks", points, (5, 2)).astype(np.float64)
    if legacy != (source_size is not None):
        raise ValueError("a legacy pose map is drawn on a canvas of source_size=(width, height); give both or neither")
    if legacy:
        return _resized_centre(_drawn(points, *source_size), size)
    canvas = _drawn(points * (POSE_CANVAS / size), POSE_CANVAS, POSE_CANVAS)
    return cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA) if size != POSE_CANVAS else canvas


def _drawn(points: np.ndarray, width: int, height: int) -> np.ndarray:
    points = np.clip(points, -FARTHEST, np.array([width, height]) + FARTHEST)
    canvas = np.zeros((height, width, 3), np.uint8)
    for index in (0, 1, 3, 4):
        limb = points[[index, NOSE]]
        dx, dy = limb[0] - limb[1]
        centre = int(limb[:, 0].mean()), int(limb[:, 1].mean())
        half_axes = int(math.hypot(dx, dy) / 2), LIMB_HALF_WIDTH
        outline = cv2.ellipse2Poly(centre, half_axes, int(math.degrees(math.atan2(dy, dx))), 0, 360, 1)
        cv2.fillConvexPoly(canvas, outline, POSE_COLOURS[index])
    canvas = (canvas * LIMB_BRIGHTNESS).astype(np.uint8)
    for (x, y), colour in zip(points, POSE_COLOURS, strict=True):
        cv2.circle(canvas, (int(x), int(y)), POINT_RADIUS, colour, -1)
    return canvas


def _resized_centre(rgb: np.ndarray, size: int) -> np.ndarray:
    """torchvision's Resize(size) and CenterCrop(size) of a PIL image, rounding included, as in the authors' trainer."""
    height, width = rgb.shape[:2]
    new_width, new_height = int(size * width / min(width, height)), int(size * height / min(width, height))
    left, top = round((new_width - size) / 2), round((new_height - size) / 2)
    resized = np.asarray(Image.fromarray(rgb).resize((new_width, new_height), Image.Resampling.BILINEAR))
    return np.ascontiguousarray(resized[top : top + size, left : left + size])


def template(size: int) -> np.ndarray:
    """Where ArcFace's five points go in an aligned face of `size` pixels: float32 (5, 2). insightface's rule.

    Raises:
        ValueError: a size that is no multiple of 112 or 128.
    """
    if size < 1 or size % 112 and size % 128:
        raise ValueError(
            f"a face cannot be aligned at {size} pixels: take a multiple of 112 (224 ...) or 128 (512 ...)"
        )
    if size % 112 == 0:
        return TEMPLATE_112 * np.float32(size / 112)
    return (TEMPLATE_112 + np.float32([8, 0])) * np.float32(size / 128)


def align(rgb: np.ndarray, landmarks: np.ndarray, size: int = 112) -> np.ndarray | None:
    """The face turned, scaled and moved onto the template: uint8 (size, size, 3), black outside the photo.

    `rgb`: uint8 (h, w, 3); `landmarks`: (5, 2), in its pixels. None: the points are in one place. It is insightface's
    `norm_crop`, down to its half pixel: warpAffine counts from the centres of pixels, detectors from their corners.
    The similarity is that of least squares (Umeyama 1991): in the plane, the complex regression z -> a z + b.

    Raises:
        ValueError: a size that is no multiple of 112 or 128, or points that are not finite.
    """
    source = _finite("landmarks", landmarks, (5, 2)).astype(np.float64) @ (1, 1j)
    target = template(size).astype(np.float64) @ (1, 1j)
    centred = source - source.mean()
    if (spread := np.vdot(centred, centred).real) < 1e-6:
        return None
    a = np.vdot(centred, target) / spread
    b = target.mean() - a * source.mean()
    matrix = np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])
    return cv2.warpAffine(rgb, matrix, (size, size), borderValue=0)


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


def _finite(what: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    array = np.array(value, np.float32)
    if array.shape != shape:
        raise ValueError(f"{what}: expected the shape {shape}, got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{what}: not finite: {array.tolist()}; they come from a failed detection or a bad file")
    return array


def _known(what: str, value: str, choices: Any) -> None:
    if value not in get_args(choices):
        raise ValueError(f"{what} is {value!r}; choose one of {', '.join(get_args(choices))}")


def _area(box: np.ndarray) -> float:
    width, height = (box[2:] - box[:2]).astype(np.float64)
    return float(max(width, 0) * max(height, 0))


def _iou(first: np.ndarray, second: np.ndarray) -> float:
    common = _area(np.concatenate([np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])]))
    return common / (_area(first) + _area(second) - common) if common else 0.0
