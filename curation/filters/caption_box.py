"""Captions about another face: the face that is left must be the one that FaceCaption's caption is about.

A check of our own, not one of the paper's: it scores nothing, but compares the faces that were found with
FaceCaption's boxes. A caption about somebody else is the worst label that there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from curation.filters.base import DerivedCheck
from curation.filters.evidence import FAIL, PASS, UNKNOWN
from curation.filters.faces import FacesThresholds, prominent
from model.conditioning.detectors import DetectorName

Boxes = Sequence[Sequence[Sequence[float]]]  # for each image its boxes, x1 y1 x2 y2


@dataclass(frozen=True)
class ChosenFaces:
    """The face to train on, of each image; (rows,) each."""

    face: np.ndarray  # int32, index of the detection; -1: none
    caption_face: np.ndarray  # int32, index of the FaceCaption box that it overlaps best; -1: none
    overlap: np.ndarray  # float64, their intersection over union


class CaptionBox(DerivedCheck):
    """Rejects images whose chosen face overlaps no box of FaceCaption; threshold: `faces.min_box_iou`."""

    name, label = "caption_box", "caption box"
    rejection = "no detected face where the caption's face should be"
    needs = ("faces",)
    drawn = "faces"

    def verdict(self, faces: np.ndarray, chosen: ChosenFaces, thresholds: FacesThresholds) -> np.ndarray:
        """int8 (rows,). `faces`: that filter's verdict; without a chosen face there is nothing to compare: UNKNOWN."""
        known = (faces != UNKNOWN) & (chosen.face >= 0)
        overlaps = np.where(chosen.overlap >= thresholds.min_box_iou, PASS, FAIL)
        return np.where(known, overlaps, UNKNOWN).astype(np.int8)


def choose_faces(faces: pa.Table, thresholds: FacesThresholds, detector: DetectorName, boxes: Boxes) -> ChosenFaces:
    """Of the faces that count, the one that best overlaps a box of FaceCaption; else the one with the best score.

    `faces`: the faces filter's evidence; `boxes`: of FaceCaption, in upright full-size pixels.
    """
    rows, index = prominent(faces, thresholds, detector)
    face = np.full(faces.num_rows, -1, dtype=np.int32)
    caption = np.full(faces.num_rows, -1, dtype=np.int32)
    best = np.zeros(faces.num_rows)
    detections = faces["boxes"].to_pylist() if len(rows) else []
    for row, place in zip(rows.tolist(), index.tolist(), strict=True):
        if face[row] < 0:
            face[row] = place
        for number, box in enumerate(boxes[row]):
            overlap = iou(detections[row][place]["box"], box)
            if overlap > best[row]:
                best[row], face[row], caption[row] = overlap, place, number
    return ChosenFaces(face, caption, best)


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes x1, y1, x2, y2."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)
