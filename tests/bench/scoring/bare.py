"""The filters' models without a project around them: what one would write who has the pictures and wants the numbers.

One decode by Pillow at the scale that the header and the recipe name, then for each model its letterbox, its network and
its boxes, as OpenCV has them. The networks are the very sessions that the filters have, with as many threads. What is no
network (colour, tone, sharpness, dlib's points) is called as it is: the filters put only tables around it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageOps

from common.decode import ImageLimits, Picture
from curation.filters.base import Filter
from curation.filters.drawing import SIDE as DRAWING_SIDE
from curation.filters.engines.ppocr import MEAN, STD
from curation.filters.grayscale import channel_std
from curation.filters.quality import blockiness
from curation.filters.toned import colour_elsewhere, tone_residual
from model.conditioning.detectors import FACE_FLOOR
from model.conditioning.detectors.yolov5face import ANCHORS, GREY, logit
from model.conditioning.face_measures import measures_of


def bare_decode(data: bytes, limits: ImageLimits) -> Picture:
    image = Image.open(io.BytesIO(data))
    width, height = image.size
    if image.format == "JPEG":
        factor = next((factor for factor in (8, 4, 2) if max(width, height) / factor >= limits.working_side), 1)
        image.draft(None, (width // factor, height // factor))
    turn = image.getexif().get(0x0112, 1)
    rgb = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    return Picture(rgb, *((height, width) if turn >= 5 else (width, height)), turn, "jpeg")


class BareModels:
    """Calls the models of some of the filters on one image after the other."""

    def __init__(self, filters: dict[str, Filter], limits: ImageLimits):
        self.filters, self.limits = filters, limits
        self.face: dict[str, Any] | None = None  # of the image in work
        self.models: dict[str, Callable[[Filter, Picture], Any]] = {name: getattr(self, f"_{name}") for name in filters}

    def __call__(self, data: bytes, names: Iterable[str]) -> None:
        """One decode, then the models of the filters `names`."""
        picture, self.face = bare_decode(data, self.limits), None
        for name in names:
            self.models[name](self.filters[name], picture)

    def _grayscale(self, item: Filter, picture: Picture) -> float:
        return channel_std(picture.view(item.settings.side))

    def _text(self, item: Filter, picture: Picture) -> Any:
        view = picture.view(item.settings.max_side)
        height, width = (max(32, round(side / 32) * 32) for side in view.shape[:2])
        blob = planes(cv2.resize(view, (width, height), interpolation=cv2.INTER_LINEAR)[..., ::-1], 1 / 255)
        for plane, mean, std in zip(blob[0], MEAN, STD, strict=True):
            plane -= mean
            plane /= std
        (maps,) = item.engine.session.run(None, {item.engine.input: blob})
        return item.engine.boxes(maps, view.shape[:2])

    def _faces(self, item: Filter, picture: Picture) -> np.ndarray:
        side = item.settings.input_side
        view = picture.view(side)
        ratio = side / max(view.shape[:2])
        if ratio > 1:
            view = cv2.resize(view, None, fx=ratio, fy=ratio, interpolation=cv2.INTER_LINEAR)
        height, width = view.shape[:2]
        top, left = (side - height) // 2, (side - width) // 2
        edges = top, side - height - top, left, side - width - left
        square = cv2.copyMakeBorder(view, *edges, cv2.BORDER_CONSTANT, value=(GREY,) * 3)
        levels = item.model.session.run(None, {item.model.input: planes(square, 1 / 255)})
        found = np.concatenate([_candidates(level[0], stride) for level, stride in zip(levels, ANCHORS, strict=True)])
        kept = cv2.dnn.NMSBoxes(found[:, :4], found[:, 4], FACE_FLOOR, item.settings.nms_iou)
        scale = max(picture.width, picture.height) / side
        faces = (found[np.asarray(kept, int).reshape(-1)] - [left, top, 0, 0, 0, *[left, top] * 5]) * scale
        if len(faces):
            x, y, wide, high, _, *points = faces[np.argmax(faces[:, 2] * faces[:, 3])].tolist()
            self.face = {"box": [x, y, x + wide, y + high], "landmarks": points}
        return faces

    def _anime(self, item: Filter, picture: Picture) -> Any:
        grey = cv2.equalizeHist(cv2.cvtColor(picture.view(item.settings.side), cv2.COLOR_RGB2GRAY))
        least = max(1, round(item.settings.min_size * min(grey.shape)))
        return item.cascade.detectMultiScale2(
            grey, scaleFactor=item.settings.scale_factor, minNeighbors=1, minSize=(least, least)
        )

    def _drawing(self, item: Filter, picture: Picture) -> np.ndarray:
        view = cv2.resize(picture.rgb, (DRAWING_SIDE, DRAWING_SIDE), interpolation=cv2.INTER_AREA)
        name = item.network.get_inputs()[0].name
        return item.network.run(None, {name: planes(view, 1 / 255)})[0]

    def _toned(self, item: Filter, picture: Picture) -> Any:
        box = np.array(self.face["box"]) if self.face else None
        residual = tone_residual(item._region(picture, box))
        if box is None:
            return residual, None
        view = picture.view(item.settings.view)
        return residual, colour_elsewhere(view, box * (view.shape[1] / picture.width))

    def _quality(self, item: Filter, picture: Picture) -> Any:
        return blockiness(picture), measures_of(picture, self.face) if self.face else None

    def _landmarks(self, item: Filter, picture: Picture) -> Any:
        return item._apart(picture, self.face) if self.face else None


def planes(rgb: np.ndarray, scale: float) -> np.ndarray:
    """uint8 (h, w, 3) -> float32 (1, 3, h, w). OpenCV's blobFromImage does the same in ten times as long."""
    blob = np.empty((1, 3, *rgb.shape[:2]), np.float32)
    for plane, out in zip(cv2.split(rgb), blob[0], strict=True):
        np.multiply(plane, np.float32(scale), out=out)
    return blob


def _candidates(level: np.ndarray, stride: int) -> np.ndarray:
    """The cells of a level (3, h, w, 16) that may hold a face: (n, 15) x, y, width, height, score, five points."""
    anchor, row, column = np.nonzero(level[..., 4] > logit(FACE_FLOOR))
    cells, grid = level[anchor, row, column], np.stack([column, row], axis=1)
    sure = 1 / (1 + np.exp(-cells[:, [0, 1, 2, 3, 4, 15]]))
    size = np.array(ANCHORS[stride])[anchor]
    centre, extent = (sure[:, :2] * 2 - 0.5 + grid) * stride, (sure[:, 2:4] * 2) ** 2 * size
    points = cells[:, 5:15].reshape(-1, 5, 2) * size[:, None] + grid[:, None] * stride
    score = (sure[:, 4] * sure[:, 5])[:, None]
    return np.concatenate([centre - extent / 2, extent, score, points.reshape(-1, 10)], axis=1)
