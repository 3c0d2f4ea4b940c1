"""The face of a reference as the methods read it: the largest one, its five points, and a recogniser's vector.

Recognisers come as ONNX files that the user gives. The detector is this project's, not the authors' SCRFD: the table's head says so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from common.pinned_files.weights import WeightError, in_short
from evaluation.methods.sources import Needed, Unavailable
from model.conditioning.face_finder import FaceFinder
from model.conditioning.faces import Face, NoFaceError, choose_face
from model.conditioning.identity import ArcFace

BUFFALO = Needed(
    "recogniser", "non-commercial research", file="w600k_r50.onnx", pinned="arcface-w600k-r50",
    fetch="it is in insightface's buffalo_l pack: accept its terms, download it, put this file into the folder --weights",
)  # fmt: skip
ANTELOPE = Needed(
    "recogniser", "non-commercial research", file="glintr100.onnx",
    fetch="it is in insightface's antelopev2 pack, a zip that is fetched by hand: accept its terms, put this file into the folder --weights",
)  # fmt: skip


class FaceReader:
    """Finds the largest face and embeds it; insightface's BGR, as the authors call it.

    Raises:
        Unavailable: no face detector is here.
    """

    def __init__(self, recogniser: Path, weights: str | None):
        try:
            self.finder = FaceFinder(identity=None, weights=weights)
        except WeightError as error:
            raise Unavailable(f"no face detector: {in_short(error)}") from error
        self.network = ArcFace(recogniser)

    def describe(self) -> dict[str, Any]:
        return {"detector": self.finder.describe()["detector"], "recogniser": self.network.describe()}

    def largest(self, rgb: np.ndarray) -> Face:
        """Raises ValueError: there is no face."""
        return choose_face(self.finder(rgb), "largest", where="the reference")

    def vector(self, rgb: np.ndarray, face: Face) -> np.ndarray:
        """float32 (512,), as the network gives it; insightface's `embedding`.

        Raises:
            ValueError: the face cannot be embedded.
        """
        vector = self.network.raw(rgb, face.landmarks)
        if vector is None:
            raise NoFaceError("the reference: its face cannot be embedded: its points lie in one place")
        return vector

    def unit_vector(self, rgb: np.ndarray, face: Face) -> np.ndarray:
        """The same of length 1; insightface's `normed_embedding`."""
        vector = self.vector(rgb, face)
        return vector / np.linalg.norm(vector)
