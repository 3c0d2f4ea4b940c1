"""Identity encoders behind one interface: a face in a photo -> a unit vector, or None.

`Dlib` is the default: its 128-d network is in the public domain. `ArcFace` is insightface's 512-d buffalo_l
recogniser, whose weights are for non-commercial research only: bring the file yourself. It expects BGR; the
authors of Face-MakeUp fed it RGB in places, so the channel order is a setting and part of the fingerprint.
"""

from __future__ import annotations

import abc
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from model.conditioning.faces import align

ChannelOrder = Literal["bgr", "rgb"]


class DeviceError(RuntimeError):
    """The device that was asked for cannot be used; the message says what to install or change."""


@dataclass(frozen=True)
class ModelFile:
    """A model file that is there.

    Raises:
        FileNotFoundError: it is not.
    """

    path: Path

    def __post_init__(self) -> None:
        if not self.path.is_file():
            raise FileNotFoundError(f"{self.path}: no such model file; put it there, or name the right path")

    @property
    def sha256(self) -> str:
        status = self.path.stat()
        return _hash(str(self.path), status.st_size, status.st_mtime_ns)


class IdentityEncoder(abc.ABC):
    """Turns a face into an L2-normalised float32 (D,). Cheap to make: its model is loaded at the first face.

    `weights`: the model files, by role; `channel_order`: what the network is fed.
    """

    name: ClassVar[str]
    dimension: ClassVar[int]

    def __init__(self, weights: Mapping[str, str | Path], channel_order: ChannelOrder):
        if channel_order not in get_args(ChannelOrder):
            raise ValueError(f"channel_order is {channel_order!r}; choose one of {', '.join(get_args(ChannelOrder))}")
        self.weights = {role: ModelFile(Path(path)) for role, path in weights.items()}
        self.channel_order = channel_order

    def describe(self) -> dict[str, Any]:
        """Everything that a vector depends on besides the photo."""
        return {
            "encoder": self.name,
            "dimension": self.dimension,
            "channel_order": self.channel_order,
            "weights": {role: file.sha256 for role, file in sorted(self.weights.items())},
        }

    @property
    def fingerprint(self) -> str:
        """The name, and 12 hex digits that change with anything in `describe`."""
        described = json.dumps(self.describe(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return f"{self.name}-{hashlib.sha256(described.encode()).hexdigest()[:12]}"

    @abc.abstractmethod
    def embed(self, rgb: np.ndarray, box: np.ndarray, landmarks: np.ndarray) -> np.ndarray | None:
        """`rgb`: uint8 (h, w, 3); `box`: (4,), `landmarks`: (5, 2), in its pixels. None: there is no face to embed."""


class Dlib(IdentityEncoder):
    """dlib_face_recognition_resnet_model_v1, aligned by dlib's own five points inside the detector's box.

    `network`, `predictor`: files dlib_face_recognition_resnet_model_v1.dat, shape_predictor_5_face_landmarks.dat.
    """

    name = "dlib"
    dimension = 128
    MIN_SIDE = 20  # pixels; dlib's 150-pixel chip of a smaller face holds nothing to recognise

    def __init__(self, network: str | Path, predictor: str | Path):
        super().__init__({"network": network, "landmarks": predictor}, "rgb")

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
    """buffalo_l's w600k_r50.onnx, or a network of its signature, on the 112-pixel face aligned by the five points.

    `device`: "cpu" or "gpu"; `threads`: onnxruntime's, in one operator. With one thread the last bit of a vector does
    not depend on the machine's load.
    """

    name = "arcface"
    dimension = 512
    SIDE = 112
    # 1 was cv2.estimateAffinePartial2D with LMEDS, which follows the best points; insightface fits all five
    ALIGNMENT = "least-squares-2"

    def __init__(
        self,
        path: str | Path,
        channel_order: ChannelOrder = "bgr",
        device: Literal["cpu", "gpu"] = "cpu",
        threads: int = 1,
    ):
        super().__init__({"network": path}, channel_order)
        self.device, self.threads = device, threads

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "alignment": self.ALIGNMENT}

    @cached_property
    def _session(self) -> Any:
        made = _session(self.weights["network"].path, self.device, self.threads)
        shapes = made.get_inputs()[0].shape, made.get_outputs()[0].shape
        expected = (1, 3, self.SIDE, self.SIDE), (1, self.dimension)
        if not all(_agrees(*pair) for pair in zip(shapes, expected, strict=True)):
            raise ValueError(
                f"{self.weights['network'].path} maps {shapes[0]} to {shapes[1]}: no ArcFace network, which maps "
                f"{expected[0]} to {expected[1]}; name insightface's w600k_r50.onnx"
            )
        return made

    def embed(self, rgb: np.ndarray, box: np.ndarray, landmarks: np.ndarray) -> np.ndarray | None:
        crop = align(rgb, landmarks, self.SIDE)
        if crop is None:
            return None
        # "bgr" is how insightface is called; inside, blobFromImages(swapRB=True) turns that into RGB planes
        planes = crop if self.channel_order == "bgr" else crop[..., ::-1]
        blob = (planes.astype(np.float32) - 127.5) / 127.5
        (output,) = self._session.run(None, {self._session.get_inputs()[0].name: blob.transpose(2, 0, 1)[None]})
        return _unit(output[0].astype(np.float32))


def _session(path: Path, device: str, threads: int) -> Any:
    import onnxruntime

    cuda = "CUDAExecutionProvider"
    available = onnxruntime.get_available_providers()
    if device == "gpu" and cuda not in available:
        raise DeviceError(
            f"a GPU was asked for, but this onnxruntime has no CUDA provider (it has {', '.join(available)}): install "
            "onnxruntime-gpu in place of onnxruntime, or set device to cpu"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    providers = [cuda, "CPUExecutionProvider"] if device == "gpu" else ["CPUExecutionProvider"]
    made = onnxruntime.InferenceSession(str(path), options, providers=providers)
    if device == "gpu" and made.get_providers()[0] != cuda:
        raise DeviceError(
            "a GPU was asked for, but onnxruntime could not start CUDA here: check driver and CUDA libraries, or set "
            "device to cpu"
        )
    return made


def _agrees(shape: list[int | str | None], expected: tuple[int, ...]) -> bool:
    """Whether a shape of an ONNX file, where a name or None is any size, can be the expected one."""
    return len(shape) == len(expected) and all(
        size == wanted or not isinstance(size, int) for size, wanted in zip(shape, expected, strict=True)
    )


def _unit(vector: np.ndarray) -> np.ndarray | None:
    norm = float(np.linalg.norm(vector))
    return vector / np.float32(norm) if np.isfinite(norm) and norm > 1e-6 else None


@lru_cache(maxsize=64)
def _hash(path: str, size: int, modified: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
