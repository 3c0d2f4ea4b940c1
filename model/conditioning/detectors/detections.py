"""What a detector returns for one image, and the non-maximum suppression of it."""

from typing import NamedTuple

import cv2
import numpy as np

MAX_CANDIDATES = 1000  # of an image, the best ones, before NMS


class Detections(NamedTuple):
    """The faces of one image, float32: `boxes` (n, 4) x1 y1 x2 y2, `scores` (n,), `landmarks` (n, 10), x y of five points.

    The points are the left eye, right eye, nose, left and right corner of the mouth, as seen.
    """

    boxes: np.ndarray
    scores: np.ndarray
    landmarks: np.ndarray


def suppress(boxes: np.ndarray, scores: np.ndarray, iou: float) -> np.ndarray:
    """Greedy non-maximum suppression: indices of what stays, best score first, ties by box."""
    order = np.lexsort((*boxes.T[::-1], -scores))[:MAX_CANDIDATES]
    if not len(order):
        return order
    corners = boxes[order].astype(np.float64)
    sizes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    return order[np.asarray(cv2.dnn.NMSBoxes(sizes.tolist(), scores[order].tolist(), 0.0, iou)).reshape(-1)]
