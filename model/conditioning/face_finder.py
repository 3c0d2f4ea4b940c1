"""Finds the faces of whole photos, and embeds one: a detector and an identity encoder behind one object."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from common.decode import Picture
from model.conditioning.detectors import FACE_FLOOR, INPUT_SIDE, MIN_CONFIDENCE, NMS_IOU, DetectorName
from model.conditioning.detectors.detect import Detector, choose_detector, detect_faces, open_detector
from model.conditioning.faces import Face, NoFaceError
from model.conditioning.identity import ChannelOrder, EncoderName, IdentityEncoder, open_encoder


class FaceFinder:
    """Finds the faces of a photo and, if asked, embeds one of them.

    `detector`: "yolov5-face", which CenterFace replaces where its file cannot be had, or "centerface"; `identity`:
    the encoder of `embed`, None for none; `weights`: a folder of model files, looked in first; `channel_order`:
    ArcFace's; `min_confidence`: faces that the detector is less sure of are left out; `device`: where both run (dlib
    always runs on the CPU).

    Raises:
        WeightError: a model file is missing, with where to get it.
        ValueError: a `min_confidence` below the detector's floor of 0.1.
    """

    def __init__(
        self,
        detector: DetectorName = "yolov5-face",
        identity: EncoderName | None = "dlib",
        weights: str | None = None,
        channel_order: ChannelOrder = "bgr",
        min_confidence: float = MIN_CONFIDENCE,
        device: Literal["cpu", "gpu"] = "cpu",
    ):
        if not FACE_FLOOR <= min_confidence <= 1:
            raise ValueError(f"min_confidence is {min_confidence}: take {FACE_FLOOR} to 1")
        # which detector runs: the one that was asked for, or its stand-in
        self.detector, self._file = choose_detector(detector, "centerface", weights)
        self.encoder: IdentityEncoder | None = None
        if identity:
            self.encoder = open_encoder(identity, channel_order, weights, device)
        self.min_confidence = min_confidence
        self.device = device

    @cached_property
    def _model(self) -> Detector:
        return open_detector(self.detector, self._file.path, INPUT_SIDE, self.device)

    def __call__(self, rgb: np.ndarray) -> list[Face]:
        """The faces of an upright photo, uint8 (h, w, 3), best score first, without identities.

        Raises:
            ValueError: not such an array.
        """
        if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
            raise ValueError(f"expected a uint8 RGB photo (h, w, 3), got {rgb.dtype} {rgb.shape}")
        height, width = rgb.shape[:2]
        (found,) = detect_faces(self._model, [Picture(rgb, width, height, 1, "")], NMS_IOU)
        return [
            Face(box, landmarks.reshape(5, 2), score)
            for box, score, landmarks in zip(found.boxes, found.scores.tolist(), found.landmarks, strict=True)
            if score >= self.min_confidence
        ]

    def embed(self, rgb: np.ndarray, face: Face) -> Face:
        """The face with its identity. `rgb`: the photo that it was found in.

        Raises:
            NoFaceError: the face cannot be embedded: it is too small, or its points lie in one place.
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

    def describe(self) -> dict[str, Any]:
        """What faces and identities depend on, as JSON types: names, settings, sha256 of every model file."""
        return {
            "detector": {
                "name": self.detector,
                "weights": {"detector": self._file.sha256},
                "input_side": INPUT_SIDE,
                "nms_iou": NMS_IOU,
                "min_confidence": self.min_confidence,
            },
            "identity": self.encoder.describe() if self.encoder else None,
        }
