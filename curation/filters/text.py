"""Images with much text on them: PP-OCR's detector finds lines of text, nothing reads them.

Model and pre-processing: PaddleOCR's DBNet detectors (arXiv 1911.08947) as PaddleOCR itself runs them, which
limits the longer side. (RapidOCR's defaults raise the shorter side to 736 and find text on most portraits.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import pyarrow as pa
import shapely

from common.decode import Picture
from common.onnx_sessions import session
from curation.filters.base import Filter, flattened, missing, passed
from curation.recipe.recipe import TEXT_FLOOR, TextSettings, TextThresholds

# ImageNet's numbers, in the order of the channels that the network was trained with: blue, green, red
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MAX_BOXES = 1000
BOX = pa.struct([pa.field("score", pa.float32()), pa.field("quad", pa.list_(pa.float32(), 8))])

Found = tuple[np.ndarray, np.ndarray]  # quads (n, 4, 2) in pixels of the image, scores (n,)


class Engine(Protocol):
    def __call__(self, images: Sequence[np.ndarray]) -> list[Found]:
        """Lines of text in each uint8 RGB image, whose longer side is at most `max_side`."""


class Text(Filter):
    """Boxes of text with their scores; the verdict counts them and measures the area that they cover."""

    name = "text"
    version = 1
    device = "gpu"
    columns = (pa.field("boxes", pa.list_(BOX)),)

    @cached_property
    def engine(self) -> Engine:
        if self.settings.engine == "paddleocr":
            from curation.filters.engines.paddle import PaddleEngine

            return PaddleEngine(self.weights["detector"], self.settings, self.run_on)
        return OnnxEngine(self.weights["detector"], self.settings, self.run_on)

    def score(self, pictures: Sequence[Picture], needed: Mapping[str, pa.Table]) -> pa.Table:
        views = [picture.view(self.settings.max_side) for picture in pictures]
        rows = [_evidence(found, view) for found, view in zip(self.engine(views), views, strict=True)]
        return pa.table({"boxes": pa.array(rows, pa.list_(BOX))})

    def verdict(self, evidence: pa.Table, thresholds: TextThresholds) -> np.ndarray:
        rows, corners = _counted(evidence, thresholds.min_confidence, thresholds.max_line)
        areas = hull_area(corners)
        number = np.bincount(rows, minlength=len(evidence))
        total = np.bincount(rows, areas, minlength=len(evidence))
        largest = np.zeros(len(evidence))
        np.maximum.at(largest, rows, areas)
        # a union is no larger than the sum of its parts and no smaller than the largest: few rows need the union
        too_much = (number > thresholds.max_boxes) | (largest > thresholds.max_area)
        open_rows = ~too_much & (total > thresholds.max_area)
        asked = open_rows[rows]
        too_much |= open_rows & (union_area(rows[asked], corners[asked], len(evidence)) > thresholds.max_area)
        return passed(~too_much, missing(evidence, "boxes"))

    @staticmethod
    def measure(evidence: pa.Table, min_confidence: float, max_line: float = 1) -> tuple[np.ndarray, np.ndarray]:
        """Area covered, as a share of the image, and number of boxes: (rows,) each. For reports and calibration."""
        rows, corners = _counted(evidence, min_confidence, max_line)
        return union_area(rows, corners, len(evidence)), np.bincount(rows, minlength=len(evidence))


def _evidence(found: Found, view: np.ndarray) -> list[dict[str, Any]]:
    """Best score first; corners as shares of width and height, within the image."""
    quads, scores = found
    if not len(scores):
        return []
    shares = np.clip(quads.astype(np.float64) / (view.shape[1], view.shape[0]), 0, 1).astype(np.float32).reshape(-1, 8)
    order = np.lexsort((*shares.T[::-1], -np.asarray(scores)))
    return [{"score": float(scores[i]), "quad": shares[i].tolist()} for i in order]


def _counted(evidence: pa.Table, min_confidence: float, max_line: float) -> tuple[np.ndarray, np.ndarray]:
    """Row and corners, float64 (n, 4, 2), of each box that counts: sure enough, and not too high for a line.

    On pictures without text the detector is at times sure of a large blob (a cup, an animal). Lines of text are
    thin: on labelled photos, leaving out boxes higher than a fifth of the image rejected 1 % instead of 8 % of the
    images without text, and as many of those with much.
    """
    rows, scores, quads = flattened(evidence, "boxes", "score", "quad")
    corners = quads.reshape(-1, 4, 2).astype(np.float64)
    steps = corners[:, [1, 3]] - corners[:, [0]]
    height = np.hypot(steps[..., 0], steps[..., 1]).min(axis=1)
    counted = (scores >= np.float32(min_confidence)) & (height <= max_line)
    return rows[counted], corners[counted]


def hull_area(corners: np.ndarray) -> np.ndarray:
    """Area of the convex hull of each four points, (n, 4, 2) -> (n,).

    The hull, since the corners of a thin box that were rounded to pixels may be out of order. It is the largest of
    the three quadrangles and four triangles that four points make.
    """
    a, b, c, d = corners.transpose(1, 2, 0)
    # twice a quadrangle's area is the product of its diagonals, twice a triangle's that of two sides
    pairs = [(c - a, d - b), (b - a, d - c), (d - a, c - b)]
    pairs += [(b - a, c - a), (b - a, d - a), (c - a, d - a), (c - b, d - b)]
    return np.max([np.abs(p[0] * q[1] - p[1] * q[0]) for p, q in pairs], axis=0) / 2


def union_area(rows: np.ndarray, corners: np.ndarray, length: int) -> np.ndarray:
    """Area of the union of each row's boxes, float64 (length,). `rows` ascend."""
    areas = np.zeros(length)
    polygons = shapely.convex_hull(shapely.multipoints(corners))
    present, first, count = np.unique(rows, return_index=True, return_counts=True)
    for number in np.unique(count):  # rows with equally many boxes form a matrix, which shapely unites in C
        same = count == number
        group = polygons[first[same][:, None] + np.arange(number)]
        united = group[:, 0] if number == 1 else shapely.union_all(group, axis=1)
        areas[present[same]] = shapely.area(united)
    return areas


class OnnxEngine:
    """The detector's ONNX file through onnxruntime."""

    def __init__(self, path: Path, settings: TextSettings, device: str):
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

    def __call__(self, images: Sequence[np.ndarray]) -> list[Found]:
        inputs = [network_input(image) for image in images]
        groups: dict[Any, list[int]] = {}
        for index, array in enumerate(inputs):
            groups.setdefault(array.shape if self.batched else index, []).append(index)
        found: list[Found] = [(np.zeros((0, 4, 2)), np.zeros(0))] * len(images)
        for indices in groups.values():
            (maps,) = self.session.run(None, {self.input: np.stack([inputs[index] for index in indices])})
            for index, probabilities in zip(indices, maps, strict=True):
                quads, scores = self.boxes(probabilities[None], images[index].shape[:2])
                found[index] = np.asarray(quads).reshape(-1, 4, 2), np.asarray(scores, dtype=np.float64)
        return found


def network_input(rgb: np.ndarray) -> np.ndarray:
    """uint8 RGB (h, w, 3) -> float32 BGR (3, H, W), standardised; H and W: h and w to the nearest multiple of 32."""
    height, width = (max(32, round(side / 32) * 32) for side in rgb.shape[:2])
    if (height, width) != rgb.shape[:2]:
        rgb = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_LINEAR)
    out = np.empty((3, height, width), np.float32)
    for plane, channel in enumerate((2, 1, 0)):
        scale = 1 / (255 * STD[plane])
        cv2.multiply(rgb[:, :, channel], scale, dst=out[plane], dtype=cv2.CV_32F)
        out[plane] -= MEAN[plane] / STD[plane]
    return out
