"""What the identity networks make of a face: a unit vector, or None where there is no face to embed.

Exported folders carry this file (model/folder.py). The networks come opened.
"""

from typing import Any

import numpy as np

from .alignment import align

DLIB_MIN_SIDE = 20  # pixels; dlib's 150-pixel chip of a smaller face holds nothing to recognise
ARCFACE_SIDE = 112


def open_dlib(landmarks: str, network: str) -> tuple[Any, Any, Any]:
    """The module dlib, its predictor of five points and its network, from their files."""
    import dlib

    return dlib, dlib.shape_predictor(landmarks), dlib.face_recognition_model_v1(network)


def dlib_identity(models: tuple[Any, Any, Any], rgb: np.ndarray, box: np.ndarray) -> np.ndarray | None:
    """float32 (128,), aligned by dlib's own five points inside the box (4,). `models`: of `open_dlib`."""
    if min(box[2] - box[0], box[3] - box[1]) < DLIB_MIN_SIDE:
        return None
    dlib, predictor, network = models
    # dlib's predictor was trained on square boxes from the brows to the chin
    centre, side = (box[:2] + box[2:]) / 2, float(max(box[2:] - box[:2])) * 0.9
    left, top = (centre - side / 2 + [0, 0.04 * side]).round().astype(int).tolist()
    rectangle = dlib.rectangle(left, top, left + round(side), top + round(side))
    image = np.ascontiguousarray(rgb)
    return _unit(np.array(network.compute_face_descriptor(image, predictor(image, rectangle)), np.float32))


def arcface_identity(session: Any, rgb: np.ndarray, landmarks: np.ndarray, channel_order: str) -> np.ndarray | None:
    """float32 (512,), of the 112-pixel face aligned by the five points (5, 2). `session`: onnxruntime's."""
    vector = arcface_vector(session, rgb, landmarks, channel_order)
    return None if vector is None else _unit(vector)


def arcface_vector(session: Any, rgb: np.ndarray, landmarks: np.ndarray, channel_order: str) -> np.ndarray | None:
    """The same as the network gives it, of any length: what insightface calls `embedding`."""
    crop = align(rgb, landmarks, ARCFACE_SIDE)
    if crop is None:
        return None
    # "bgr" is how insightface is called; inside, blobFromImages(swapRB=True) turns that into RGB planes
    planes = crop if channel_order == "bgr" else crop[..., ::-1]
    blob = (planes.astype(np.float32) - 127.5) / 127.5
    (output,) = session.run(None, {session.get_inputs()[0].name: blob.transpose(2, 0, 1)[None]})
    return output[0].astype(np.float32)


def _unit(vector: np.ndarray) -> np.ndarray | None:
    norm = float(np.linalg.norm(vector))
    return vector / np.float32(norm) if np.isfinite(norm) and norm > 1e-6 else None
