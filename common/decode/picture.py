"""A decoded image with its views at the sizes that filters ask for, and boxes turned into its frame."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np


class Picture:
    """A decoded image. `width`, `height`: the full upright size; `rgb`: uint8 (h, w, 3) at the decoded scale.

    `notes`: what beside its pixels could not be read.
    """

    def __init__(
        self, rgb: np.ndarray, width: int, height: int, orientation: int, source_format: str, notes: Sequence[str] = ()
    ):
        self.rgb = rgb
        self.width, self.height = width, height
        self.orientation = orientation
        self.source_format = source_format
        self.notes = tuple(notes)
        self._views: dict[int, np.ndarray] = {}

    @property
    def scale(self) -> tuple[float, float]:
        """Decoded pixels per full-size pixel, in x and y."""
        return self.rgb.shape[1] / self.width, self.rgb.shape[0] / self.height

    def view(self, long_side: int) -> np.ndarray:
        """uint8 RGB (h, w, 3) whose longer side is at most `long_side`; never enlarged. Shared: do not write to it."""
        if long_side not in self._views:
            height, width = self.rgb.shape[:2]
            ratio = long_side / max(height, width)
            if ratio >= 1:
                self._views[long_side] = self.rgb
            else:
                size = max(1, round(width * ratio)), max(1, round(height * ratio))
                self._views[long_side] = cv2.resize(self.rgb, size, interpolation=cv2.INTER_AREA)
        return self._views[long_side]

    def phash(self) -> str:
        """64-bit perceptual hash as 16 hex digits (DCT of a 32 x 32 grey view, OpenCV's)."""
        return _phasher().compute(cv2.cvtColor(self.view(256), cv2.COLOR_RGB2BGR)).tobytes().hex()


@lru_cache(maxsize=1)
def _phasher() -> cv2.img_hash.PHash:
    return cv2.img_hash.PHash.create()


def upright_box(
    box: tuple[float, float, float, float], orientation: int, width: int, height: int
) -> tuple[float, float, float, float]:
    """A box of the stored (unrotated) frame in the upright frame; `width`, `height`: the upright size."""
    x1, y1, x2, y2 = box
    if orientation >= 5:  # the stored frame is the upright one with its sides exchanged
        stored_width, stored_height = height, width
    else:
        stored_width, stored_height = width, height
    corners = {
        1: lambda x, y: (x, y),
        2: lambda x, y: (stored_width - x, y),
        3: lambda x, y: (stored_width - x, stored_height - y),
        4: lambda x, y: (x, stored_height - y),
        5: lambda x, y: (y, x),
        6: lambda x, y: (stored_height - y, x),
        7: lambda x, y: (stored_height - y, stored_width - x),
        8: lambda x, y: (y, stored_width - x),
    }[orientation]
    (ax, ay), (bx, by) = corners(x1, y1), corners(x2, y2)
    return min(ax, bx), min(ay, by), max(ax, bx), max(ay, by)
