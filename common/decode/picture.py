"""A decoded image with its views at the sizes that filters ask for, and boxes turned into its frame."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np

# how the stored frame is made upright, by EXIF orientation: mirrored across and down, then, from 5 on, its axes exchanged
MIRRORED = {
    1: (False, False), 2: (True, False), 3: (True, True), 4: (False, True),
    5: (False, False), 6: (False, True), 7: (True, True), 8: (True, False),
}  # fmt: skip
_MIRRORED = np.array([MIRRORED.get(orientation, (False, False)) for orientation in range(9)])


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
    return tuple(
        upright_boxes(np.array([box]), *(np.array([value]) for value in (orientation, width, height)))[0].tolist()
    )


def upright_boxes(boxes: np.ndarray, orientation: np.ndarray, width: np.ndarray, height: np.ndarray) -> np.ndarray:
    """(boxes, 4) `upright_box` of many; the others are (boxes,)."""
    exchanged = (orientation >= 5)[:, None]
    stored = np.where(exchanged, np.stack([height, width], axis=1), np.stack([width, height], axis=1))
    low, high = boxes[:, :2], boxes[:, 2:]
    mirrored = _MIRRORED[orientation]
    low, high = np.where(mirrored, stored - high, low), np.where(mirrored, stored - low, high)
    return np.concatenate([np.where(exchanged, low[:, ::-1], low), np.where(exchanged, high[:, ::-1], high)], axis=1)
