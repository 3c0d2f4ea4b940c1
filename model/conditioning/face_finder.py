"""Faces of a whole photo: the curation's detector and identity encoder, as generation and evaluation need them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np

from common.decode import ImageLimits, Picture
from curation.annotation.encoder import encoder
from curation.filters.registry import build_faces
from curation.recipe.recipe import FACE_FLOOR, FacesSettings
from model.conditioning.faces import Face, NoFaceError
from model.conditioning.identity import IdentityEncoder


class FaceFinder:
    """Finds the faces of a photo and, if asked, embeds one of them.

    `detector`: "yolov5-face", in whose place CenterFace stands where it cannot be had, or "centerface"; `identity`:
    the encoder of `embed`, None for none; `weights`: a folder of model files, looked in first; `channel_order`:
    ArcFace's; `min_confidence`: faces that the detector is less sure of are left out; `device`: where both run, but dlib.

    Raises:
        WeightError: a model file is missing, with where to get it.
        ValueError: a `min_confidence` below the detector's floor of 0.1.
    """

    def __init__(
        self,
        detector: Literal["yolov5-face", "centerface"] = "yolov5-face",
        identity: Literal["dlib", "arcface"] | None = "dlib",
        weights: str | None = None,
        channel_order: Literal["bgr", "rgb"] = "bgr",
        min_confidence: float = 0.5,
        device: Literal["cpu", "gpu"] = "cpu",
    ):
        if not FACE_FLOOR <= min_confidence <= 1:
            raise ValueError(f"min_confidence is {min_confidence}: take {FACE_FLOOR} to 1")
        settings = FacesSettings(model=detector, stand_in="centerface")
        self._faces = build_faces(settings, ImageLimits(), weights, device)
        self.encoder: IdentityEncoder | None = None
        if identity:
            self.encoder = encoder(identity, channel_order, weights, device)
        self.min_confidence = min_confidence

    def __call__(self, rgb: np.ndarray) -> list[Face]:
        """The faces of an upright photo, uint8 (h, w, 3), best score first, without identities.

        Raises:
            ValueError: not such an array.
        """
        if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
            raise ValueError(f"expected a uint8 RGB photo (h, w, 3), got {rgb.dtype} {rgb.shape}")
        height, width = rgb.shape[:2]
        (found,) = self._faces.score([Picture(rgb, width, height, 1, "")], {})["boxes"].to_pylist()
        return [
            Face(face["box"], np.reshape(face["landmarks"], (5, 2)), face["score"])
            for face in found
            if face["score"] >= self.min_confidence
        ]

    def embed(self, rgb: np.ndarray, face: Face) -> Face:
        """The face with its identity. `rgb`: the photo that it was found in.

        Raises:
            NoFaceError: too small, or its points lie in one place: nothing to embed.
            ValueError: this finder was made without an identity encoder.
        """
        if self.encoder is None:
            raise ValueError("this FaceFinder was made with identity=None; give 'dlib' or 'arcface' to embed faces")
        vector = self.encoder.embed(rgb, face.box, face.landmarks)
        if vector is None:
            raise NoFaceError(
                f"the face at {face.box.round().astype(int).tolist()} (x1 y1 x2 y2) is too small or too unclear for "
                f"{self.encoder.name} to embed; take a photo where it is larger"
            )
        return replace(face, identity=vector)

    @property
    def detector(self) -> str:
        """Which detector runs: the one that was asked for, or its stand-in."""
        return self._faces.detector

    def describe(self) -> dict[str, Any]:
        """What faces and identities depend on, for provenance: names, channel order, sha256 of every model file."""
        return {
            "detector": {
                "name": self.detector,
                "fingerprint": self._faces.fingerprint,
                "weights": dict(self._faces.weight_hashes),
                "min_confidence": self.min_confidence,
            },
            "identity": self.encoder.describe() if self.encoder else None,
        }
