"""Choose a face detector, open it, and detect the faces of decoded photos in full-size pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.decode import Picture
from common.onnx_sessions import session, with_free_dimensions
from common.pinned_files.weights import WEIGHTS, RefusedError, Resolved, WeightError, resolve, resolve_file
from model.conditioning.detectors import FACE_FLOOR, DetectorName
from model.conditioning.detectors.centerface import CenterFace
from model.conditioning.detectors.detections import Detections, suppress
from model.conditioning.detectors.yolov5face import YoloFace

Detector = YoloFace | CenterFace


def choose_detector(
    name: DetectorName, stand_in: DetectorName | None, folder: str | None = None, file: str | None = None
) -> tuple[DetectorName, Resolved]:
    """Which detector runs, and its model file: `name`, or `stand_in` where the file of that one cannot be had.

    `folder`: model files, looked in first; `file`: the user's own file of detector `name`, taken as it is.

    Raises:
        WeightError: no file for either.
        RefusedError: the user's folder holds a file of that name with another sha256; the stand-in does not hide that.
    """
    if file:
        return name, resolve_file(file, WEIGHTS[name].licence)
    try:
        return name, resolve(name, folder)
    except RefusedError:
        raise
    except WeightError:
        if stand_in is None or stand_in == name:
            raise
        return stand_in, resolve(stand_in, folder)


def open_detector(name: DetectorName, file: Path, input_side: int, device: str) -> Detector:
    """Load a detector. `input_side`: pixels of its input; `device`: "cpu" or "gpu".

    Raises:
        DeviceError: "gpu" where onnxruntime cannot use one.
    """
    if name == "centerface":
        return CenterFace(session(centerface_model(file), device), input_side)
    return YoloFace(file, input_side, device)


def centerface_model(file: Path) -> bytes:
    """CenterFace's file for pictures of any size, serialised."""
    return with_free_dimensions(file, {"input.1": ("batch", 3, "height", "width")})


def detect_faces(detector: Detector, pictures: Sequence[Picture], nms_iou: float) -> list[Detections]:
    """The faces of each picture above the floor, best score first, in upright full-size pixels.

    Boxes are cut at the image's edge, landmarks are not.
    """
    views = [picture.view(detector.side) for picture in pictures]
    return [
        _in_full_size(found, picture, view, nms_iou)
        for found, picture, view in zip(detector(views, FACE_FLOOR), pictures, views, strict=True)
    ]


def _in_full_size(found: Detections, picture: Picture, view: np.ndarray, nms_iou: float) -> Detections:
    kept = suppress(found.boxes, found.scores, nms_iou)
    scale = np.array([picture.width / view.shape[1], picture.height / view.shape[0]])
    boxes = np.clip(found.boxes[kept] * np.tile(scale, 2), 0, [picture.width, picture.height] * 2)
    landmarks = found.landmarks[kept] * np.tile(scale, 5)
    return Detections(boxes.astype(np.float32), found.scores[kept], landmarks.astype(np.float32))
