"""The pose map: five landmarks as a stick drawing, what the ControlNet sees of a face's pose."""

import math

import cv2
import numpy as np
from PIL import Image

from .checks import finite_array

POSE_CANVAS = 512  # pixels: what the authors train at, and what strokes are measured in
POSE_COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255))  # RGB, one a point
NOSE, LIMB_HALF_WIDTH, POINT_RADIUS, LIMB_BRIGHTNESS = 2, 4, 10, 0.6
FARTHEST = 100_000.0  # pixels outside a canvas; beyond, drawing would overflow OpenCV's integers


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
    points = finite_array("landmarks", points, (5, 2)).astype(np.float64)
    if legacy != (source_size is not None):
        raise ValueError("a legacy pose map is drawn on a canvas of source_size=(width, height); give both or neither")
    if legacy:
        return _resized_centre(stick_drawing(points, *source_size), size)
    canvas = stick_drawing(points * (POSE_CANVAS / size), POSE_CANVAS, POSE_CANVAS)
    return cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA) if size != POSE_CANVAS else canvas


def stick_drawing(points: np.ndarray, width: int, height: int) -> np.ndarray:
    """Four limbs from the nose, darker, and five points above them, on black: uint8 RGB (height, width, 3)."""
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
