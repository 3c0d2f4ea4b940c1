"""A face as the methods see it, from its five points: aligned crops, the recogniser's vector, CLIP's pixels, the pose."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import torch
from PIL import Image
from torch import Tensor

# insightface's five places in 112 x 112: eyes, nose, corners of the mouth; its float32 decides what a pixel rounds to
ARCFACE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32
)
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255))


def similarity(points: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The 2 x 3 matrix of the least squares turn, scale and shift: as complex numbers, targets = a points + b."""
    z, w = points @ [1, 1j], targets @ [1, 1j]
    a = np.vdot(z - z.mean(), w - w.mean()) / np.vdot(z - z.mean(), z - z.mean())
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def aligned(rgb: np.ndarray, points: np.ndarray, size: int) -> np.ndarray:
    return cv2.warpAffine(
        rgb, similarity(points.astype(np.float64), (ARCFACE * np.float32(size / 112)).astype(np.float64)), (size, size)
    )


def recognised(file: Path, rgb: np.ndarray, points: np.ndarray, slip: str = "") -> Tensor:
    """The recogniser's own output (1, 512) for RGB in -1..1; insightface swaps its BGR picture before the network."""
    crop = aligned(rgb, points, 112).astype(np.float32)
    if slip == "recogniser sees BGR":
        crop = crop[..., ::-1]
    batch = np.ascontiguousarray(((crop - 127.5) / 127.5).transpose(2, 0, 1)[None])
    session = onnxruntime.InferenceSession(str(file))
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: batch})[0])


def clip_pixels(rgb: np.ndarray, size: int) -> Tensor:
    """CLIP's processor: the short side to `size`, bicubic, the middle square, mean and deviation of CLIP."""
    picture = Image.fromarray(rgb)
    width, height = picture.size
    short = min(width, height)
    width, height = int(size * width / short), int(size * height / short)
    picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    square = np.asarray(picture.crop((left, top, left + size, top + size)), np.float32) / 255
    return torch.from_numpy((square - np.float32(CLIP_MEAN)) / np.float32(CLIP_STD)).permute(2, 0, 1)[None]


def pose_of(points: np.ndarray, width: int, height: int, slip: str = "") -> np.ndarray:
    """InstantID's drawing of five points: four limbs to the nose, dimmed, and bright dots over them."""
    canvas = np.zeros((height, width, 3), np.uint8)
    nose = points[2].astype(np.float64)
    colours = [colour[::-1] for colour in COLOURS] if slip == "pose in BGR" else COLOURS
    for end in (0, 1, 3, 4):
        point = points[end].astype(np.float64)
        middle = (point + nose) / 2
        across = point - nose
        limb = cv2.ellipse2Poly(
            (int(middle[0]), int(middle[1])),
            (int(np.hypot(*across) / 2), 4),
            int(math.degrees(math.atan2(across[1], across[0]))),
            0,
            360,
            1,
        )
        cv2.fillConvexPoly(canvas, limb, colours[end])
    canvas = (canvas * (1.0 if slip == "limbs not dimmed" else 0.6)).astype(np.uint8)
    for point, colour in zip(points, colours, strict=True):
        cv2.circle(canvas, (int(point[0]), int(point[1])), 10, colour, -1)
    return canvas
