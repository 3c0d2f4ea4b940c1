"""Identity encoders behind one interface: a face in an image -> a unit vector, or None.

`dlib` is the default: its 128-d network is in the public domain. `arcface` is insightface's 512-d buffalo_l
recogniser, whose weights are for non-commercial research only: bring the file yourself. It expects BGR; the
authors of Face-MakeUp fed it RGB in places, so the channel order is a setting and is stored with every vector.
"""

from __future__ import annotations

import abc
import hashlib
from functools import cached_property
from typing import Any, ClassVar

import cv2
import numpy as np

from curation.filters.sessions import session
from curation.image import ImageLimits
from curation.recipe import Recipe
from curation.run import canonical_json
from curation.weights import Resolved, resolve

# insightface's 112-pixel template (arcface_dst), in pixels: left eye, right eye, nose, left and right mouth corner
TEMPLATE_112 = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32
)


class IdentityEncoder(abc.ABC):
    """Turns a face into an L2-normalised float32 (D,)."""

    name: ClassVar[str]
    dimension: ClassVar[int]

    def __init__(self, weights: dict[str, Resolved], channel_order: str, limits: ImageLimits):
        self.weights = weights
        self.channel_order = channel_order
        self.limits = limits

    def describe(self) -> dict[str, Any]:
        return {
            "encoder": self.name,
            "dimension": self.dimension,
            "channel_order": self.channel_order,
            "weights": {role: item.sha256 for role, item in sorted(self.weights.items())},
        }

    @property
    def fingerprint(self) -> str:
        return f"{self.name}-{hashlib.sha256(canonical_json(self.describe()).encode()).hexdigest()[:12]}"

    @abc.abstractmethod
    def embed(self, rgb: np.ndarray, box: np.ndarray, landmarks: np.ndarray) -> np.ndarray | None:
        """`rgb`: uint8 (h, w, 3); `box`: (4,), `landmarks`: (5, 2), in its pixels. None: there is no face to embed."""


class Dlib(IdentityEncoder):
    """dlib_face_recognition_resnet_model_v1, aligned by dlib's own five points inside the detector's box."""

    name = "dlib"
    dimension = 128
    MIN_SIDE = 20  # pixels; dlib's 150-pixel chip of a smaller face holds nothing to recognise

    @cached_property
    def _models(self) -> tuple[Any, Any, Any]:
        import dlib

        return (
            dlib,
            dlib.shape_predictor(str(self.weights["landmarks"].path)),
            dlib.face_recognition_model_v1(str(self.weights["network"].path)),
        )

    def embed(self, rgb: np.ndarray, box: np.ndarray, landmarks: np.ndarray) -> np.ndarray | None:
        if min(box[2] - box[0], box[3] - box[1]) < self.MIN_SIDE:
            return None
        dlib, predictor, network = self._models
        # dlib's predictor was trained on square boxes from the brows to the chin
        centre, side = (box[:2] + box[2:]) / 2, float(max(box[2:] - box[:2])) * 0.9
        left, top = (centre - side / 2 + [0, 0.04 * side]).round().astype(int).tolist()
        rectangle = dlib.rectangle(left, top, left + round(side), top + round(side))
        image = np.ascontiguousarray(rgb)
        vector = np.array(network.compute_face_descriptor(image, predictor(image, rectangle)), np.float32)
        return _unit(vector)


class ArcFace(IdentityEncoder):
    """buffalo_l's w600k_r50.onnx on the 112-pixel crop aligned by the five points (insightface's norm_crop)."""

    name = "arcface"
    dimension = 512

    @cached_property
    def _session(self) -> Any:
        return session(self.weights["network"].path, "cpu")

    def embed(self, rgb: np.ndarray, box: np.ndarray, landmarks: np.ndarray) -> np.ndarray | None:
        crop = align(rgb, landmarks)
        if crop is None:
            return None
        channels = crop[..., ::-1] if self.channel_order == "bgr" else crop
        # the network takes RGB planes made from BGR input (blobFromImages with swapRB): `bgr` is the right way
        blob = (channels[..., ::-1].astype(np.float32) - 127.5) / 127.5
        (output,) = self._session.run(None, {self._session.get_inputs()[0].name: blob.transpose(2, 0, 1)[None]})
        return _unit(output[0].astype(np.float32))


def align(rgb: np.ndarray, landmarks: np.ndarray, size: int = 112) -> np.ndarray | None:
    """The face turned and scaled onto the template: uint8 (size, size, 3); None for points in one place."""
    matrix, _ = cv2.estimateAffinePartial2D(landmarks.astype(np.float32), TEMPLATE_112 * (size / 112), method=cv2.LMEDS)
    return None if matrix is None else cv2.warpAffine(rgb, matrix, (size, size), borderValue=0)


def _unit(vector: np.ndarray) -> np.ndarray | None:
    norm = float(np.linalg.norm(vector))
    return vector / np.float32(norm) if np.isfinite(norm) and norm > 1e-6 else None


def build_encoder(recipe: Recipe) -> IdentityEncoder | None:
    """The recipe's encoder; None for `identity: none`.

    Raises:
        WeightError: a model file is missing, with where to get it.
    """
    if recipe.annotate.identity == "dlib":
        files = {
            "network": resolve("dlib-resnet", recipe.weights),
            "landmarks": resolve("dlib-5-landmarks", recipe.weights),
        }
        return Dlib(files, "rgb", recipe.images)
    if recipe.annotate.identity == "arcface":
        return ArcFace(
            {"network": resolve("arcface-w600k-r50", recipe.weights)}, recipe.annotate.channel_order, recipe.images
        )
    return None
