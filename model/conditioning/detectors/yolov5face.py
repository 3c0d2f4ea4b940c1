"""yolov5-face as an ONNX file: letterbox, run, decode, in numpy.

Only facts about the network are taken from its project (github.com/deepcam-cn/yolov5-face, GPL-3.0, arXiv
2105.12931): the anchors, and what the 16 numbers of a cell mean. None of its code is used here.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from common.onnx_sessions import as_batch, session, with_free_dimensions
from model.conditioning.detectors.detections import Detections

# width, height of the three anchors of a cell, in pixels of the input, by stride
ANCHORS = {
    8: ((4, 5), (8, 10), (13, 16)),
    16: ((23, 29), (43, 55), (73, 105)),
    32: ((146, 217), (231, 300), (335, 433)),
}
GREY = 114
ROUNDING = 0.01  # more than float32 can be wrong by about a sigmoid's argument


class YoloFace:
    """The detector. Understands both layouts: three raw outputs (1, 3, H, W, 16), or one decoded (1, N, 16)."""

    def __init__(self, path: Path, side: int, device: str):
        self.side = side
        # one shape for whatever the exporter called the only input
        shapes = defaultdict(lambda: ("batch", 3, side, side))
        self.session = session(with_free_dimensions(path, shapes), device)
        self.input = self.session.get_inputs()[0].name
        self.batched = device != "cpu"

    def __call__(self, images: Sequence[np.ndarray], floor: float) -> list[Detections]:
        """Candidates (before NMS) with a score above `floor` in each uint8 RGB image, in pixels of that image."""
        step = max(1, len(images)) if self.batched else 1
        found: list[Detections] = []
        for start in range(0, len(images), step):
            boxed = [letterbox(image, self.side) for image in images[start : start + step]]
            batch = as_batch([square for square, _, _ in boxed])
            rows = decode(self.session.run(None, {self.input: batch}), floor)
            found += [_unboxed(row, scale, corner) for row, (_, scale, corner) in zip(rows, boxed, strict=True)]
        return found


def letterbox(rgb: np.ndarray, side: int) -> tuple[np.ndarray, tuple[float, float], tuple[int, int]]:
    """The image in the middle of a grey square, float32 RGB (3, side, side) in 0..1.

    Returns it with the scales (square pixels per image pixel, x and y) and the corner (x, y) of the image in it.
    """
    height, width = rgb.shape[:2]
    ratio = side / max(height, width)
    new_width, new_height = max(1, round(width * ratio)), max(1, round(height * ratio))
    if (new_height, new_width) != (height, width):
        method = cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR
        rgb = cv2.resize(rgb, (new_width, new_height), interpolation=method)
    left, top = (side - new_width) // 2, (side - new_height) // 2
    bottom, right = top + new_height, left + new_width
    square = np.empty((3, side, side), np.float32)  # 5 MB: every number of it is written once
    for edge in (square[:, :top], square[:, bottom:], square[:, top:bottom, :left], square[:, top:bottom, right:]):
        edge[:] = GREY / 255
    # numpy is three times slower where a plane's pixels are three bytes apart
    for channel, plane in enumerate(cv2.split(rgb)):
        np.multiply(plane, np.float32(1 / 255), out=square[channel, top:bottom, left:right])
    return square, (new_width / width, new_height / height), (left, top)


def _unboxed(found: np.ndarray, scale: tuple[float, float], corner: tuple[int, int]) -> Detections:
    points = found[:, :14].reshape(-1, 7, 2)
    points = ((points - corner) / scale).astype(np.float32).reshape(-1, 14)
    return Detections(points[:, :4], found[:, 14], points[:, 4:])


def decode(outputs: Sequence[np.ndarray], floor: float) -> list[np.ndarray]:
    """Raw or decoded outputs -> for each image float32 (n, 15): box corners, five points, score, in input pixels.

    Raises:
        ValueError: the outputs are of neither layout.
    """
    if len(outputs) == 1 and outputs[0].ndim == 3 and outputs[0].shape[2] == 16:
        return [_corners(image, image[:, 4] * image[:, 15], floor) for image in outputs[0]]
    if len(outputs) == 3 and all(output.ndim == 5 and output.shape[4] == 16 for output in outputs):
        by_size = sorted(outputs, key=lambda output: -output.shape[2])
        return [
            np.concatenate([_cells(raw[image], stride, floor) for raw, stride in zip(by_size, ANCHORS, strict=True)])
            for image in range(len(outputs[0]))
        ]
    shapes = ", ".join(str(output.shape) for output in outputs)
    raise ValueError(
        f"not a yolov5-face model: its outputs are {shapes}; expected (1, N, 16) or three (1, 3, H, W, 16)"
    )


def _cells(raw: np.ndarray, stride: int, floor: float) -> np.ndarray:
    """One level (3, H, W, 16) of raw numbers -> (n, 15). Only cells above the floor are decoded."""
    # the score is this number's sigmoid times another below 1: of 25,200 cells nearly all are out before any exponential
    anchor, row, column = np.nonzero(raw[..., 4] > logit(floor) - ROUNDING)
    cells = raw[anchor, row, column]
    scores = _sigmoid(cells[:, 4]) * _sigmoid(cells[:, 15])
    grid = np.stack([column, row], axis=1).astype(np.float32)
    size = np.array(ANCHORS[stride], np.float32)[anchor]
    cells[:, 0:2] = (_sigmoid(cells[:, 0:2]) * 2 - 0.5 + grid) * stride
    cells[:, 2:4] = (_sigmoid(cells[:, 2:4]) * 2) ** 2 * size
    points = cells[:, 5:15].reshape(-1, 5, 2) * size[:, None] + grid[:, None] * stride
    cells[:, 5:15] = points.reshape(-1, 10)
    return _corners(cells, scores, floor)


def _corners(cells: np.ndarray, scores: np.ndarray, floor: float) -> np.ndarray:
    """Decoded cells (n, 16), centre and size first -> (m, 15) for those above the floor."""
    kept = scores > floor
    cells, scores = cells[kept], scores[kept]
    centre, half = cells[:, 0:2], cells[:, 2:4] / 2
    return np.concatenate([centre - half, centre + half, cells[:, 5:15], scores[:, None]], axis=1).astype(np.float32)


def logit(share: float) -> float:
    """Whose sigmoid is `share`."""
    return math.log(share / (1 - share)) if share > 0 else -math.inf


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))
