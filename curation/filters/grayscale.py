"""Black-and-white images: how far the three channels of a pixel are from each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from pydantic import Field

from common.decode import Picture
from common.settings import Section
from curation.filters.base import Filter, Measure
from curation.filters.evidence import missing, passed


class GrayscaleSettings(Section):
    side: int = Field(256, ge=16, description="longer side of the one view that colour is measured on")


class GrayscaleThresholds(Section):
    min_std: float = Field(2.0, ge=0, description="mean over pixels of the std over R, G, B; 8-bit levels")


class Grayscale(Filter):
    """Rejects grey images: Face-MakeUp's "mean of the standard deviation", the mean over pixels of the std over R, G, B.

    Measured on one small view, so the score does not depend on how large the image is. (The other reading of
    the paper's words, the std over pixels, would not tell grey from colour.)
    """

    name, label, rejection = "grayscale", "grayscale", "too little colour"
    version = 1
    columns = (pa.field("std", pa.float32()),)
    Settings, Thresholds = GrayscaleSettings, GrayscaleThresholds
    grid = {"min_std": [1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 10, 12, 15]}
    labels = {"colour": ("colour", "grey", "toned", "partial")}

    def score(self, pictures: Sequence[Picture], needed: Mapping[str, pa.Table]) -> pa.Table:
        values = [channel_std(picture.view(self.settings.side)) for picture in pictures]
        return pa.table({"std": pa.array(values, pa.float32())})

    def verdict(self, evidence: pa.Table, thresholds: GrayscaleThresholds) -> np.ndarray:
        std = evidence["std"].to_numpy()
        return passed(std >= np.float32(thresholds.min_std), missing(evidence, "std"))

    def measures(self, thresholds: GrayscaleThresholds) -> list[Measure]:
        return [Measure("std", "Colour", "std over R, G, B", "log", _std, thresholds.min_std)]

    def in_sample(self, evidence: Mapping[str, Any]) -> dict[str, Any]:
        return {"grayscale_std": float(evidence["std"])}

    @classmethod
    def should_reject(cls, label: Mapping[str, str]) -> bool | None:
        return {"grey": True, "colour": False}.get(label["colour"])  # toned, partly coloured: no right answer


def _std(evidence: pa.Table) -> np.ndarray:
    return evidence["std"].to_numpy(zero_copy_only=False).astype(np.float64)


def channel_std(rgb: np.ndarray) -> float:
    """Mean over the pixels of uint8 (h, w, 3) of the population std of its three channels, in 8-bit levels.

    The sum of the squared pairwise differences is nine times the variance: three differences of whole planes
    instead of a reduction over an axis of length 3, which numpy does tens of times slower.
    """
    red, green, blue = cv2.split(rgb)
    squares = None
    for one, other in ((red, green), (green, blue), (blue, red)):
        difference = cv2.absdiff(one, other)
        square = cv2.multiply(difference, difference, dtype=cv2.CV_32F)
        squares = square if squares is None else cv2.add(squares, square, dst=squares)
    return cv2.mean(cv2.sqrt(squares))[0] / 3
