"""Identity encoders: a face in a photo becomes a unit vector, or None.

`Dlib` is the default: its 128-d network is in the public domain. `ArcFace` is insightface's 512-d buffalo_l
recogniser, whose weights are for non-commercial research only: the user brings the file. It expects BGR; the
authors of Face-MakeUp gave it RGB in places, so the channel order is a setting and part of the fingerprint.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from common.hashing import canonical_json, sha256_of_bytes
from common.onnx_sessions import session
from common.pinned_files.weights import resolve, sha256_of_weights
from model.conditioning.identity_networks import (
    ARCFACE_SIDE,
    arcface_identity,
    arcface_vector,
    dlib_identity,
    open_dlib,
)

EncoderName = Literal["dlib", "arcface"]
ChannelOrder = Literal["bgr", "rgb"]


class IdentityEncoder(abc.ABC):
    """Turns a face into an L2-normalised float32 (D,). Its model is loaded at the first face.

    `weights`: the model files, by role; `channel_order`: that of the network's input.

    Raises:
        FileNotFoundError: a model file is not there.
        ValueError: an unknown channel order.
    """

    name: ClassVar[str]
    dimension: ClassVar[int]

    def __init__(self, weights: Mapping[str, str | Path], channel_order: ChannelOrder):
        if channel_order not in get_args(ChannelOrder):
            raise ValueError(f"channel_order is {channel_order!r}; choose one of {', '.join(get_args(ChannelOrder))}")
        self.weights = {role: Path(path) for role, path in weights.items()}
        for path in self.weights.values():
            if not path.is_file():
                raise FileNotFoundError(f"{path}: no such model file; put it there, or name the right path")
        self.channel_order = channel_order

    def describe(self) -> dict[str, Any]:
        """Everything that a vector depends on besides the photo, as JSON types."""
        return {
            "encoder": self.name,
            "dimension": self.dimension,
            "channel_order": self.channel_order,
            "weights": {role: sha256_of_weights(path) for role, path in sorted(self.weights.items())},
        }

    @property
    def fingerprint(self) -> str:
        """The name, and 12 hex digits that change with anything in `describe`."""
        return f"{self.name}-{sha256_of_bytes(canonical_json(self.describe()).encode())[:12]}"

    @abc.abstractmethod
    def embed(self, rgb: np.ndarray, box: np.ndarray, landmarks: np.ndarray) -> np.ndarray | None:
        """The identity of one face, float32 (D,); None where there is no face to embed.

        `rgb`: uint8 (h, w, 3); `box`: (4,), `landmarks`: (5, 2), in its pixels.
        """


class Dlib(IdentityEncoder):
    """dlib_face_recognition_resnet_model_v1, aligned by dlib's own five points inside the detector's box.

    `network`, `predictor`: files dlib_face_recognition_resnet_model_v1.dat, shape_predictor_5_face_landmarks.dat.
    """

    name = "dlib"
    dimension = 128

    def __init__(self, network: str | Path, predictor: str | Path):
        super().__init__({"network": network, "landmarks": predictor}, "rgb")

    @cached_property
    def _models(self) -> tuple[Any, Any, Any]:
        return open_dlib(str(self.weights["landmarks"]), str(self.weights["network"]))

    def embed(self, rgb: np.ndarray, box: np.ndarray, landmarks: np.ndarray) -> np.ndarray | None:
        return dlib_identity(self._models, rgb, box)


class ArcFace(IdentityEncoder):
    """buffalo_l's w600k_r50.onnx, or a network of its signature, on the 112-pixel face aligned by the five points.

    `device`: "cpu" or "gpu". It runs on one thread: the last bit of a vector does not depend on the machine's load.
    """

    name = "arcface"
    dimension = 512
    # 1 was cv2.estimateAffinePartial2D with LMEDS, which follows the best points; insightface fits all five
    ALIGNMENT = "least-squares-2"

    def __init__(self, path: str | Path, channel_order: ChannelOrder = "bgr", device: Literal["cpu", "gpu"] = "cpu"):
        super().__init__({"network": path}, channel_order)
        self.device = device

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "alignment": self.ALIGNMENT}

    @cached_property
    def _session(self) -> Any:
        opened = session(self.weights["network"], self.device)
        shapes = opened.get_inputs()[0].shape, opened.get_outputs()[0].shape
        expected = (1, 3, ARCFACE_SIDE, ARCFACE_SIDE), (1, self.dimension)
        if not all(_agrees(*pair) for pair in zip(shapes, expected, strict=True)):
            raise ValueError(
                f"{self.weights['network']} maps {shapes[0]} to {shapes[1]}: no ArcFace network, which maps "
                f"{expected[0]} to {expected[1]}; name insightface's w600k_r50.onnx"
            )
        return opened

    def embed(self, rgb: np.ndarray, box: np.ndarray, landmarks: np.ndarray) -> np.ndarray | None:
        return arcface_identity(self._session, rgb, landmarks, self.channel_order)

    def raw(self, rgb: np.ndarray, landmarks: np.ndarray) -> np.ndarray | None:
        """The vector as the network gives it, of any length; None where the points lie in one place."""
        return arcface_vector(self._session, rgb, landmarks, self.channel_order)


def open_encoder(
    name: EncoderName,
    channel_order: ChannelOrder = "bgr",
    folder: str | None = None,
    device: Literal["cpu", "gpu"] = "cpu",
) -> IdentityEncoder:
    """An encoder by name, with its model files found and checked by hash; `folder`: looked in first.

    `channel_order` and `device` are ArcFace's: dlib takes RGB and runs on the CPU.

    Raises:
        WeightError: a model file is missing, with where to get it.
    """
    if name == "dlib":
        return Dlib(resolve("dlib-resnet", folder).path, resolve("dlib-5-landmarks", folder).path)
    return ArcFace(resolve("arcface-w600k-r50", folder).path, channel_order, device)


def _agrees(shape: list[int | str | None], expected: tuple[int, ...]) -> bool:
    """Whether a shape of an ONNX file, where a name or None is any size, can be the expected one."""
    return len(shape) == len(expected) and all(
        size == wanted or not isinstance(size, int) for size, wanted in zip(shape, expected, strict=True)
    )
