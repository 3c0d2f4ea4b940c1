"""Numbers of a face in a photo: size, sharpness, pose and light, from its box, its five points and its pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from common.decode import Picture

SIDE = 128  # pixels of the longer side that a face is brought down to before its sharpness is measured
NOSE = 0.5  # how far the tip of the nose stands before the eyes, in distances between the eyes
FINE = 2.0  # pixels, at that size: detail is what is left when a blur of these is taken off
DARK, BRIGHT = 8, 247  # luma at and beyond which nothing can be told apart any more


def measures_of(picture: Picture, face: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a face; of its pixels only where it covers any.

    `face`: `box`, x1 y1 x2 y2, and `landmarks`, five times x y, in pixels of the picture before it was scaled.
    """
    x1, y1, x2, y2 = face["box"]
    yaw, roll = yaw_and_roll(np.array(face["landmarks"], np.float64).reshape(5, 2))
    numbers = {"face_side": min(x2 - x1, y2 - y1), "yaw": yaw, "roll": roll}
    eyes = (face["landmarks"][1] + face["landmarks"][3]) / 2
    numbers |= {"eyes_at": (eyes - y1) / max(y2 - y1, 1e-6), "box_ratio": (x2 - x1) / max(y2 - y1, 1e-6)}
    corners = np.array([[x1, y1], [x2, y2]]) * picture.scale
    height, width = picture.rgb.shape[:2]
    left, top = np.clip(np.floor(corners[0]), 0, (width, height)).astype(int)
    right, bottom = np.clip(np.ceil(corners[1]), 0, (width, height)).astype(int)
    if min(right - left, bottom - top) < 3:
        return numbers
    luma = cv2.cvtColor(picture.rgb[top:bottom, left:right], cv2.COLOR_RGB2GRAY)
    numbers["clipped"] = float(((luma <= DARK) | (luma >= BRIGHT)).mean())
    numbers["brightness"] = float(luma.mean())
    ratio = SIDE / max(luma.shape)
    if ratio < 1:
        size = max(3, round(luma.shape[1] * ratio)), max(3, round(luma.shape[0] * ratio))
        luma = cv2.resize(luma, size, interpolation=cv2.INTER_AREA)
    return numbers | {"sharpness": float(cv2.Laplacian(luma, cv2.CV_64F).var()), "evenness": evenness(luma)}


def evenness(luma: np.ndarray) -> float:
    """Fine detail in the direction in which it is weakest, over that across it; 1 where there is none at all.

    A camera that moved, or a face that did, leaves lines of one direction. `luma`: uint8 (h, w).
    """
    detail = luma.astype(np.float32)
    detail -= cv2.GaussianBlur(detail, (0, 0), FINE)
    across, down = (cv2.Sobel(detail, cv2.CV_32F, *axis, ksize=1).ravel() for axis in ((1, 0), (0, 1)))
    least, most = np.linalg.eigvalsh(np.stack([across, down]) @ np.stack([across, down]).T / across.size)
    return float(max(least, 0) / most) if most > 1e-6 else 1.0


def yaw_and_roll(points: np.ndarray) -> tuple[float, float]:
    """Degrees; positive yaw: the nose is right of the eyes' middle in the picture; positive roll: turned clockwise.

    `points`: float64 (5, 2), eyes, nose, corners of the mouth, left of the picture first. In the frame of the eyes the
    nose is NOSE * d * sin(yaw) aside, and the eyes are d * cos(yaw) apart; their ratio is known, d is not.
    """
    across = points[1] - points[0]
    apart = max(float(np.hypot(*across)), 1e-6)
    aside = float((points[2] - (points[0] + points[1]) / 2) @ across) / apart
    return math.degrees(math.atan2(aside / apart, NOSE)), math.degrees(math.atan2(across[1], across[0]))
