"""PP-OCR's text detector as an ONNX file: where lines of text are, not what they say.

Model and pre-processing: PaddleOCR's DBNet detectors (arXiv 1911.08947) as PaddleOCR itself runs them, which
limits the longer side. (RapidOCR's defaults raise the shorter side to 736 and find text on most portraits.)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from common.onnx_sessions import as_batch, session

TEXT_FLOOR = 0.3  # boxes below this confidence are not stored
# ImageNet's numbers, in the order of the channels that the network was trained with: blue, green, red
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MAX_BOXES = 1000
TextBoxes = tuple[np.ndarray, np.ndarray]  # quads (n, 4, 2) in pixels of the image, scores (n,)


class TextEngine(Protocol):
    def __call__(self, images: Sequence[np.ndarray]) -> list[TextBoxes]:
        """Lines of text in each uint8 RGB image, whose longer side is at most `max_side`."""


class TextEngineSettings(Protocol):
    """What an engine takes of the text filter's settings."""

    model: str
    max_side: int
    binarize: float
    unclip: float


class OnnxEngine:
    """The detector's ONNX file through onnxruntime."""

    def __init__(self, path: Path, settings: TextEngineSettings, device: str):
        # imported late: rapidocr brings seconds of imports, and most users of this module need only verdicts
        from rapidocr.ch_ppocr_det.utils import DBPostProcess

        self.session = session(path, device)
        self.input = self.session.get_inputs()[0].name
        self.batched = device != "cpu"  # on a CPU a batch saves nothing, and singles cannot depend on each other
        self.boxes = DBPostProcess(
            thresh=settings.binarize,
            box_thresh=TEXT_FLOOR,
            max_candidates=MAX_BOXES,
            unclip_ratio=settings.unclip,
            score_mode="fast",
            use_dilation=False,
        )

    def __call__(self, images: Sequence[np.ndarray]) -> list[TextBoxes]:
        groups: dict[Any, list[int]] = {}
        for index, image in enumerate(images):
            groups.setdefault(input_size(image) if self.batched else index, []).append(index)
        boxes: list[TextBoxes] = [(np.zeros((0, 4, 2)), np.zeros(0))] * len(images)
        for indices in groups.values():
            batch = as_batch([network_input(images[index]) for index in indices])
            (maps,) = self.session.run(None, {self.input: batch})
            for index, probabilities in zip(indices, maps, strict=True):
                quads, scores = self.boxes(probabilities[None], images[index].shape[:2])
                boxes[index] = np.asarray(quads).reshape(-1, 4, 2), np.asarray(scores, dtype=np.float64)
        return boxes


def input_size(rgb: np.ndarray) -> tuple[int, int]:
    """Height and width of an image's input to the network: the nearest multiples of 32."""
    height, width = (max(32, round(side / 32) * 32) for side in rgb.shape[:2])
    return height, width


def network_input(rgb: np.ndarray) -> np.ndarray:
    """uint8 RGB (h, w, 3) -> float32 BGR (3, *input_size), standardised."""
    height, width = input_size(rgb)
    if (height, width) != rgb.shape[:2]:
        rgb = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_LINEAR)
    out = np.empty((3, height, width), np.float32)
    for place, plane in enumerate(cv2.split(rgb)[::-1]):
        cv2.multiply(plane, 1 / (255 * STD[place]), dst=out[place], dtype=cv2.CV_32F)
        out[place] -= MEAN[place] / STD[place]
    return out
