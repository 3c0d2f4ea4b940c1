"""The faces of the picture at hand, found once for all metrics that look at faces."""

from __future__ import annotations

from typing import Any

import numpy as np

from model.conditioning.face_finder import FaceFinder
from model.conditioning.faces import Face


class FoundFaces:
    """Faces of a photo, best score first, as FaceFinder finds them; those of the last photo are remembered.

    Raises:
        WeightError: no detector's file is here.
    """

    def __init__(self, weights: str | None):
        self._finder = FaceFinder(identity=None, weights=weights)
        self._last: tuple[np.ndarray, list[Face]] | None = None

    def describe(self) -> dict[str, Any]:
        return self._finder.describe()["detector"]

    def __call__(self, rgb: np.ndarray) -> list[Face]:
        if self._last is None or self._last[0] is not rgb:
            self._last = rgb, self._finder(rgb)
        return self._last[1]


def largest(faces: list[Face]) -> Face:
    """The face that a picture is judged by, of one or more; of equal ones that which the detector is surer of."""
    return max(faces, key=lambda face: face.area)
