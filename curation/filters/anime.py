"""Anime and cartoons: nagadomi's LBP cascade for drawn faces, any hit with enough neighbours is one.

Source of the classifier and of its use (grey, equalised, scale 1.1): github.com/nagadomi/lbpcascade_animeface.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import cv2
import numpy as np
import pyarrow as pa
from pydantic import Field

from common.decode import Picture
from common.hashing import canonical_json
from common.settings import Section
from curation.filters.base import Filter, Measure, Outline, box_corners
from curation.filters.evidence import flattened, largest, missing, passed
from curation.filters.faces import FAINT

FLOOR = 1  # OpenCV drops groups of this many windows and fewer: the evidence holds every hit of two or more
FACE_MARGIN = 1.5  # `where: faces`: how much larger than the face the crop is
HIT = pa.struct([pa.field("box", pa.list_(pa.float32(), 4)), pa.field("neighbors", pa.int32())])


class AnimeSettings(Section):
    where: Literal["image", "faces"] = "image"
    side: int = Field(256, ge=24, description="longer side of the view that the cascade sees")
    scale_factor: float = Field(1.1, gt=1)
    min_size: float = Field(0.35, gt=0, le=1, description="smallest hit, as a share of the view's shorter side")


class AnimeThresholds(Section):
    min_neighbors: int = Field(12, ge=1, description="a hit merged from fewer windows does not count")


class Anime(Filter):
    """Rejects anime: an LBP cascade finds a drawn face in it.

    Looks in the whole view (`where: image`) or in the faces that the face filter found (`where: faces`).
    """

    name, label, rejection = "anime", "anime", "a drawn face"
    version = 1
    columns = (pa.field("hits", pa.list_(HIT)),)
    Settings, Thresholds = AnimeSettings, AnimeThresholds
    grid = {"min_neighbors": [1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 60]}
    labels = {"drawing": ("photo", "anime", "cartoon", "other")}

    @classmethod
    def weight_names(cls, settings: AnimeSettings) -> dict[str, str]:
        return {"cascade": "lbp-animeface"}

    @classmethod
    def needed(cls, settings: AnimeSettings) -> tuple[str, ...]:
        return ("faces",) if settings.where == "faces" else ()

    @cached_property
    def cascade(self) -> cv2.CascadeClassifier:
        # candidates of parallel stripes come in any order, and grouping averages them in that order
        cv2.setNumThreads(1)
        return cv2.CascadeClassifier(str(self.files["cascade"].path))

    def score(self, pictures: Sequence[Picture], needed: Mapping[str, pa.Table]) -> pa.Table:
        if self.settings.where == "image":
            hits: list[list[dict[str, Any]] | None] = [self._in_image(picture) for picture in pictures]
        else:
            hits = self._in_faces(pictures, needed["faces"])
        return pa.table({"hits": pa.array(hits, pa.list_(HIT))})

    def verdict(self, evidence: pa.Table, thresholds: AnimeThresholds) -> np.ndarray:
        rows, neighbors = flattened(evidence, "hits", "neighbors")
        counted = np.bincount(rows[neighbors >= thresholds.min_neighbors], minlength=len(evidence))
        return passed(counted == 0, missing(evidence, "hits"))

    def measures(self, thresholds: AnimeThresholds) -> list[Measure]:
        def neighbors(evidence: pa.Table) -> np.ndarray:
            return largest(evidence, "hits", "neighbors")

        last = thresholds.min_neighbors - 1
        unit = "neighbours of the largest hit"
        return [Measure("neighbors", "Drawn face", unit, "count", neighbors, last, above=False, exclusive=True)]

    def outlines(
        self, evidence: Mapping[str, Any], size: tuple[int, int], thresholds: AnimeThresholds
    ) -> list[Outline]:
        return [
            Outline(box_corners(hit["box"], size), hit["neighbors"] >= thresholds.min_neighbors)
            for hit in evidence["hits"] or ()
        ]

    def in_sample(self, evidence: Mapping[str, Any]) -> dict[str, Any]:
        return {"anime_hits": canonical_json(evidence["hits"])}

    @classmethod
    def should_reject(cls, label: Mapping[str, str]) -> bool | None:
        # the cascade was trained on anime faces; what it makes of other cartoons is printed apart
        return {"anime": True, "photo": False}.get(label["drawing"])

    def _in_image(self, picture: Picture) -> list[dict[str, Any]]:
        view = picture.view(self.settings.side)
        return self._detect(view, (0, 0), (picture.width / view.shape[1], picture.height / view.shape[0]))

    def _in_faces(self, pictures: Sequence[Picture], faces: pa.Table) -> list[list[dict[str, Any]] | None]:
        unknown = missing(faces, "boxes")
        rows, boxes, scores = flattened(faces, "boxes", "box", "score")
        hits: list[list[dict[str, Any]] | None] = [None if gone else [] for gone in unknown]
        for row, box in zip(rows[scores >= FAINT], boxes[scores >= FAINT], strict=True):
            for crop, corner, scale in self._crop(pictures[row], box):
                hits[row] += self._detect(crop, corner, scale)
        return hits

    def _crop(self, picture: Picture, box: np.ndarray) -> Iterator[tuple[np.ndarray, tuple, tuple]]:
        """The enlarged face at `side`, its corner and scale in full-size pixels; nothing for a face of no size."""
        across, down = picture.scale
        half = FACE_MARGIN / 2 * np.array([box[2] - box[0], box[3] - box[1]]) * (across, down)
        centre = np.array([box[0] + box[2], box[1] + box[3]]) / 2 * (across, down)
        height, width = picture.rgb.shape[:2]
        x1, y1 = np.clip(np.floor(centre - half), 0, (width, height)).astype(int)
        x2, y2 = np.clip(np.ceil(centre + half), 0, (width, height)).astype(int)
        if min(x2 - x1, y2 - y1) < 2:
            return
        ratio = self.settings.side / max(x2 - x1, y2 - y1)
        size = max(1, round((x2 - x1) * ratio)), max(1, round((y2 - y1) * ratio))
        method = cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR
        crop = cv2.resize(picture.rgb[y1:y2, x1:x2], size, interpolation=method)
        yield crop, (x1 / across, y1 / down), ((x2 - x1) / size[0] / across, (y2 - y1) / size[1] / down)

    def _detect(self, rgb: np.ndarray, corner: tuple[float, float], scale: tuple[float, float]) -> list[dict[str, Any]]:
        """Hits in a view, in full-size pixels, most neighbours first."""
        grey = cv2.equalizeHist(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))
        smallest = max(1, round(self.settings.min_size * min(grey.shape)))
        boxes, neighbors = self.cascade.detectMultiScale2(
            grey, scaleFactor=self.settings.scale_factor, minNeighbors=FLOOR, minSize=(smallest, smallest)
        )
        hits = []
        for (x, y, width, height), count in zip(boxes, neighbors, strict=True):
            box = np.array([x, y, x + width, y + height]) * (*scale, *scale) + (*corner, *corner)
            hits.append({"box": box.astype(np.float32).tolist(), "neighbors": int(count)})
        return sorted(hits, key=lambda hit: (-hit["neighbors"], hit["box"]))
