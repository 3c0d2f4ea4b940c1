"""Group photos and images without a face: how many prominent faces there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from common.decode import Picture
from curation.filters.base import Filter, flattened, missing, passed
from curation.recipe.recipe import FacesThresholds
from model.conditioning.detectors.detect import Detector, detect_faces, open_detector

FACE = pa.struct(
    [
        pa.field("box", pa.list_(pa.float32(), 4)),
        pa.field("score", pa.float32()),
        pa.field("landmarks", pa.list_(pa.float32(), 10)),
    ]
)


class Faces(Filter):
    """Boxes, scores and five points of every face above the floor. Passes an image with as many faces as asked.

    `detector`: which one runs. It is settled when the filter is built: where yolov5-face cannot be had and the
    recipe names a stand-in, that one; its name and its file's hash are in the fingerprint.
    """

    name = "faces"
    version = 1
    device = "gpu"
    columns = (pa.field("boxes", pa.list_(FACE)),)

    def __init__(self, *args: Any, detector: str | None = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.detector = detector or self.settings.model

    def describe(self) -> dict[str, Any]:
        # what ran counts, not what was wished for: a stand-in that was not needed changes no score
        described = super().describe()
        settings = {k: v for k, v in described["settings"].items() if k not in ("model", "stand_in", "file")}
        return {**described, "settings": {**settings, "detector": self.detector}}

    @cached_property
    def model(self) -> Detector:
        return open_detector(self.detector, self.weights["detector"], self.settings.input_side, self.run_on)

    def score(self, pictures: Sequence[Picture], needed: Mapping[str, pa.Table]) -> pa.Table:
        found = detect_faces(self.model, pictures, self.settings.nms_iou) if pictures else []
        rows = [
            [
                {"box": box.tolist(), "score": float(score), "landmarks": landmarks.tolist()}
                for box, score, landmarks in zip(*faces, strict=True)
            ]
            for faces in found
        ]
        return pa.table({"boxes": pa.array(rows, pa.list_(FACE))})

    def verdict(self, evidence: pa.Table, thresholds: FacesThresholds) -> np.ndarray:
        rows, _ = prominent(evidence, thresholds, self.detector)
        return passed(np.bincount(rows, minlength=len(evidence)) == thresholds.count, missing(evidence, "boxes"))


def prominent(evidence: pa.Table, thresholds: FacesThresholds, detector: str) -> tuple[np.ndarray, np.ndarray]:
    """The faces that count: confident, and not much smaller than the largest confident face of their image.

    Returns:
        Row of the table, and index in that row's list of boxes, of each such face: int64 (faces,) each, in order.
    """
    rows, boxes, scores = flattened(evidence, "boxes", "box", "score")
    first = np.searchsorted(rows, rows)
    index = np.arange(len(rows)) - first
    confident = scores >= np.float32(thresholds.min_confidence[detector])
    rows, index, boxes = rows[confident].astype(np.int64), index[confident], boxes[confident].astype(np.float64)
    if not len(rows):
        return rows, index
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    starts = np.flatnonzero(np.diff(rows, prepend=-1))
    largest = np.maximum.reduceat(area, starts)
    of_row = np.repeat(largest, np.diff(np.append(starts, len(rows))))
    counts = area >= thresholds.min_relative_area * of_row
    return rows[counts], index[counts]
