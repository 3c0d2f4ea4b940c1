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


@dataclass(frozen=True)
class CaptionBoxes:
    """FaceCaption's boxes of a list of images, in upright full-size pixels, image after image.

    `rows`: int64 (boxes,), ascending: which image; `corners`: float64 (boxes, 4), x1 y1 x2 y2.
    """

    rows: np.ndarray
    corners: np.ndarray

    @classmethod
    def none(cls) -> CaptionBoxes:
        return cls(np.zeros(0, np.int64), np.zeros((0, 4)))

    def take(self, rows: Sequence[int]) -> CaptionBoxes:
        """Those of some of the images, which ascend, as a list of these alone."""
        first, last = (np.searchsorted(self.rows, rows, side) for side in ("left", "right"))
        counts = last - first
        return CaptionBoxes(np.repeat(np.arange(len(counts)), counts), self.corners[_ranges(first, counts)])


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


def choose_faces(
    faces: pa.Table, thresholds: FacesThresholds, detector: DetectorName, boxes: CaptionBoxes
) -> ChosenFaces:
    """Of the faces that count, the one that best overlaps a box of FaceCaption; else the first, which has the best score.

    `faces`: the faces filter's evidence.
    """
    face = np.full(faces.num_rows, -1, dtype=np.int32)
    caption = np.full(faces.num_rows, -1, dtype=np.int32)
    best = np.zeros(faces.num_rows)
    rows, index, found = prominent(faces, thresholds, detector)
    with_faces, first = np.unique(rows, return_index=True)
    face[with_faces] = index[first]
    # each face with each box of its image, in that order
    begin, end = (np.searchsorted(boxes.rows, rows, side) for side in ("left", "right"))
    counts = end - begin
    pairs, theirs = np.repeat(np.arange(len(rows)), counts), _ranges(begin, counts)
    overlap = iou(found[pairs], boxes.corners[theirs])
    if len(pairs):
        of_row = rows[pairs]
        starts = np.flatnonzero(np.diff(of_row, prepend=-1))
        highest = np.maximum.reduceat(overlap, starts)
        is_best = (overlap == np.repeat(highest, np.diff(np.append(starts, len(of_row))))) & (overlap > 0)
        chosen, place = np.unique(of_row[is_best], return_index=True)
        place = np.flatnonzero(is_best)[place]
        best[chosen], face[chosen] = overlap[place], index[pairs[place]]
        caption[chosen] = theirs[place] - np.searchsorted(boxes.rows, chosen)
    return ChosenFaces(face, caption, best)


def _ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """int64: the numbers from each start on, so many as its length says, one after the other."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - ends + lengths, lengths)


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """float64 (pairs,): intersection over union of boxes x1, y1, x2, y2, (pairs, 4) each."""
    width = np.minimum(a[:, 2], b[:, 2]) - np.maximum(a[:, 0], b[:, 0])
    height = np.minimum(a[:, 3], b[:, 3]) - np.maximum(a[:, 1], b[:, 1])
    both = np.where((width > 0) & (height > 0), width * height, 0.0)
    whole = (a[:, 2] - a[:, 0]) * (a[:, 3] - a[:, 1]) + (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) - both
    return np.divide(both, whole, out=np.zeros(len(both)), where=both > 0)
