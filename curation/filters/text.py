"""Images with much text on them: PP-OCR's detector (engines/ppocr.py) finds lines of text, nothing reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import shapely
from pydantic import Field

from common.decode import Picture
from common.hashing import canonical_json
from common.settings import Section, Share
from curation.filters.base import Filter, Measure, Outline, stored_from
from curation.filters.engines.ppocr import TEXT_FLOOR, TextBoxes, TextEngine
from curation.filters.evidence import flattened, missing, passed

BOX = pa.struct([pa.field("score", pa.float32()), pa.field("quad", pa.list_(pa.float32(), 8))])


class TextSettings(Section):
    model: Literal["ppocr-v4-mobile-det", "ppocr-v6-small-det"] = "ppocr-v4-mobile-det"
    engine: Literal["onnxruntime", "paddleocr"] = "onnxruntime"
    max_side: int = Field(480, ge=64, multiple_of=32)
    binarize: float = Field(0.3, gt=0, lt=1)
    unclip: float = Field(1.6, gt=0)


class TextThresholds(Section):
    min_confidence: stored_from(TEXT_FLOOR) = Field(0.6, description="boxes below do not count")
    max_line: Share = Field(0.2, description="higher boxes do not count: the detector's blobs; a share of the image")
    max_area: Share = Field(0.02, description="area of the union of the boxes / area of the image")
    max_boxes: int = Field(6, ge=0)


class Text(Filter):
    """Rejects images with much text: boxes of text with their scores, counted, and the area that they cover."""

    name, label, rejection = "text", "text", "too much text"
    version = 1
    device = "gpu"
    columns = (pa.field("boxes", pa.list_(BOX)),)
    Settings, Thresholds = TextSettings, TextThresholds
    libraries = ("onnxruntime", "rapidocr", "pyclipper")
    grid = {
        "min_confidence": [0.5, 0.6, 0.7, 0.8],
        "max_line": [0.12, 0.16, 0.2, 0.25, 0.35, 1.0],
        "max_area": [0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1],
        "max_boxes": [2, 3, 4, 6, 10, 15],
    }
    labels = {"text": ("none", "little", "much")}

    @classmethod
    def weight_names(cls, settings: TextSettings) -> dict[str, str]:
        return {"detector": settings.model}

    @cached_property
    def engine(self) -> TextEngine:
        if self.settings.engine == "paddleocr":
            from curation.filters.engines.paddle import PaddleEngine as Engine
        else:
            from curation.filters.engines.ppocr import OnnxEngine as Engine
        return Engine(self.files["detector"].path, self.settings, self.machine.device)

    def score(self, pictures: Sequence[Picture], needed: Mapping[str, pa.Table]) -> pa.Table:
        views = [picture.view(self.settings.max_side) for picture in pictures]
        rows = [_evidence(boxes, view) for boxes, view in zip(self.engine(views), views, strict=True)]
        return pa.table({"boxes": pa.array(rows, pa.list_(BOX))})

    def verdict(self, evidence: pa.Table, thresholds: TextThresholds) -> np.ndarray:
        area, number = area_and_number(evidence, thresholds, thresholds.max_area)
        few = (number <= thresholds.max_boxes) & (area <= thresholds.max_area)
        return passed(few, missing(evidence, "boxes"))

    def measures(self, thresholds: TextThresholds) -> list[Measure]:
        def covered(evidence: pa.Table) -> np.ndarray:
            return area_and_number(evidence, thresholds)[0]

        def counted(evidence: pa.Table) -> np.ndarray:
            return area_and_number(evidence, thresholds)[1]

        area, boxes = thresholds.max_area, thresholds.max_boxes
        return [
            Measure("area", "Text: area covered", "share of the image", "log", covered, area, above=False),
            Measure("boxes", "Text: boxes", "boxes", "count", counted, boxes, above=False),
        ]

    def outlines(self, evidence: Mapping[str, Any], size: tuple[int, int], thresholds: TextThresholds) -> list[Outline]:
        return [
            Outline(
                list(zip(box["quad"][::2], box["quad"][1::2], strict=True)), box["score"] >= thresholds.min_confidence
            )
            for box in evidence["boxes"] or ()
        ]

    def in_sample(self, evidence: Mapping[str, Any]) -> dict[str, Any]:
        return {"text_boxes": canonical_json(evidence["boxes"])}

    @classmethod
    def should_reject(cls, label: Mapping[str, str]) -> bool | None:
        return label["text"] == "much" if label["text"] else None


def _evidence(boxes: TextBoxes, view: np.ndarray) -> list[dict[str, Any]]:
    """Best score first; corners as shares of width and height, within the image."""
    quads, scores = boxes
    if not len(scores):
        return []
    shares = np.clip(quads.astype(np.float64) / (view.shape[1], view.shape[0]), 0, 1).astype(np.float32).reshape(-1, 8)
    order = np.lexsort((*shares.T[::-1], -np.asarray(scores)))
    return [{"score": float(scores[i]), "quad": shares[i].tolist()} for i in order]


def area_and_number(
    evidence: pa.Table, thresholds: TextThresholds, limit: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Of the boxes that count: the area that they cover, as a share of the image, and their number; (rows,) each.

    With `limit` the area is only on the right side of it: boxes are united where that alone decides.

    A box counts that is sure enough, and not too high for a line. On pictures without text the detector is at times
    sure of a large blob (a cup, an animal). Lines of text are thin: on labelled photos, leaving out boxes higher than a
    fifth of the image rejected 1 % instead of 8 % of the images without text, and as many of those with much.
    """
    rows, scores, quads = flattened(evidence, "boxes", "score", "quad")
    corners = quads.reshape(-1, 4, 2).astype(np.float64)
    steps = corners[:, [1, 3]] - corners[:, [0]]
    height = np.hypot(steps[..., 0], steps[..., 1]).min(axis=1)
    counted = (scores >= np.float32(thresholds.min_confidence)) & (height <= thresholds.max_line)
    rows, corners = rows[counted], corners[counted]
    number = np.bincount(rows, minlength=len(evidence))
    alone = hull_areas(corners)
    area = np.bincount(rows, alone, minlength=len(evidence))  # at most that; of one box it is that
    overlapping = number > 1
    if limit is not None:
        least = np.zeros(len(evidence))
        np.maximum.at(least, rows, alone)
        overlapping &= (area > limit) & (least <= limit)
        area = np.where(least > limit, least, area)
    open_boxes = overlapping[rows]
    united = union_area(rows[open_boxes], corners[open_boxes], len(evidence))
    return np.where(overlapping, united, area), number


def hull_areas(corners: np.ndarray) -> np.ndarray:
    """float64 (boxes,): area of the convex hull of each box's four corners, (boxes, 4, 2).

    That is the largest of the quadrilaterals and triangles that the four make, in whatever order they are.
    """
    a, b, c = np.moveaxis(corners[:, 1:] - corners[:, :1], 1, 0)
    ab, ac, bc = (one[:, 0] * other[:, 1] - one[:, 1] * other[:, 0] for one, other in ((a, b), (a, c), (b, c)))
    return np.abs([ab + bc, ac - bc, ac - ab, ab, ac, bc, ab + bc - ac]).max(axis=0) / 2


def union_area(rows: np.ndarray, corners: np.ndarray, length: int) -> np.ndarray:
    """Area of the union of each row's boxes, float64 (length,). `rows` ascend.

    Of each box its convex hull, since the corners of a thin box that were rounded to pixels may be out of order.
    """
    areas = np.zeros(length)
    polygons = shapely.convex_hull(shapely.multipoints(corners))
    present, first, count = np.unique(rows, return_index=True, return_counts=True)
    for number in np.unique(count):  # rows with equally many boxes form a matrix, which shapely unites in C
        same = count == number
        group = polygons[first[same][:, None] + np.arange(number)]
        areas[present[same]] = shapely.area(shapely.union_all(group, axis=1))
    return areas
