"""Black-and-white images: how far the three channels of a pixel are from each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import pyarrow as pa

from common.decode import Picture
from curation.filters.base import Filter, missing, passed
from curation.recipe.recipe import GrayscaleThresholds


class Grayscale(Filter):
    """Face-MakeUp, "the mean of the standard deviation": mean over pixels of the std over R, G, B.

    Measured on one small view, so the score does not depend on how large the image is. (The other reading of
    the paper's words, the std over pixels, would not tell grey from colour.)
    """

    name = "grayscale"
    version = 1
    columns = (pa.field("std", pa.float32()),)

    def score(self, pictures: Sequence[Picture], needed: Mapping[str, pa.Table]) -> pa.Table:
        values = [channel_std(picture.view(self.settings.side)) for picture in pictures]
        return pa.table({"std": pa.array(values, pa.float32())})

    def verdict(self, evidence: pa.Table, thresholds: GrayscaleThresholds) -> np.ndarray:
        std = evidence["std"].to_numpy()
        return passed(std >= np.float32(thresholds.min_std), missing(evidence, "std"))


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
