"""Black-and-white photos that are not grey: sepia, cyanotype, split tones, tints, casts, also in a coloured frame.

Toning gives each lightness one colour. So the mean colour of each lightness level is taken off; what is left, the tone
residual, is near 0 in a toned photo whatever its tones are, and not in a colour photo, however pale. It is measured about
the face: a portrait on white has little colour elsewhere, and a grey one in a coloured frame much.

A grey photo of which somebody coloured the face is told by what is away from the face: edges without any colour. Edges, since
a backdrop of white, grey or black paper has none and yet stands behind good portraits; clothes and hair before it have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from pydantic import Field

from common.decode import Picture
from common.hashing import canonical_json
from common.settings import Section
from curation.filters.base import Filter, Measure
from curation.filters.evidence import flattened, missing, passed
from curation.filters.faces import FAINT

LEVELS = 24  # of lightness
BLUR = 1.0  # pixels of the view: noise of colour is no colour
AWAY = 2.0  # what is further from the face's middle than the edge of a box so many times as wide and high
EDGE, FEWEST = 2.5, 0.01  # an edge: so many levels of 255 a pixel; fewer of them, as a share of the view, tell nothing
NEITHER = (25, 242)  # between which levels a pixel can have colour: neither black nor white


class TonedSettings(Section):
    side: int = Field(48, ge=8, description="of the square view that the face is measured on")
    region: float = Field(1.4, gt=0, description="width and height of what is looked at, in faces")
    view: int = Field(
        256, ge=64, description="longer side of the view in which edges away from the face are looked for"
    )


class TonedThresholds(Section):
    min_residual: float = Field(
        1.75, ge=0, description="colour left when each lightness level's mean is off; Lab units"
    )
    min_elsewhere: float = Field(
        0.5, ge=0, description="colour of the edges away from the face, their median; Lab units"
    )


class Toned(Filter):
    """Rejects toned photos: about the face, every lightness has one colour, or there is colour in the face alone."""

    name, label, rejection = "toned", "toned", "one colour for each lightness"
    version, needs = 2, ("faces",)
    optional = True
    columns = (pa.field("residual", pa.float32()), pa.field("elsewhere", pa.float32()))
    Settings, Thresholds = TonedSettings, TonedThresholds
    grid = {
        "min_residual": [0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2, 2.25, 2.5, 2.75, 3, 3.5, 4, 5],
        "min_elsewhere": [0, 0.1, 0.25, 0.5, 0.75, 1, 2],
    }

    def score(self, pictures: Sequence[Picture], needed: Mapping[str, pa.Table]) -> pa.Table:
        unknown = missing(needed["faces"], "boxes")
        boxes = best_boxes(needed["faces"])
        residual, elsewhere = [], []
        for row, picture in enumerate(pictures):
            box = boxes.get(row)
            residual.append(None if unknown[row] else tone_residual(self._region(picture, box)))
            elsewhere.append(None if box is None else colour_elsewhere(*_shrunk(picture, box, self.settings.view)))
        return pa.table({"residual": pa.array(residual, pa.float32()), "elsewhere": pa.array(elsewhere, pa.float32())})

    def verdict(self, evidence: pa.Table, thresholds: TonedThresholds) -> np.ndarray:
        residual, elsewhere = (_values(evidence, column) for column in ("residual", "elsewhere"))
        coloured = np.isnan(elsewhere) | (elsewhere >= np.float32(thresholds.min_elsewhere))
        return passed((residual >= np.float32(thresholds.min_residual)) & coloured, missing(evidence, "residual"))

    def measures(self, thresholds: TonedThresholds) -> list[Measure]:
        def of(column: str) -> Callable[[pa.Table], np.ndarray]:
            return lambda evidence: _values(evidence, column).astype(np.float64)

        unit = "Lab units left beside one colour for each lightness"
        least, away = thresholds.min_residual, thresholds.min_elsewhere
        return [
            Measure("residual", "Colour about the face", unit, "log", of("residual"), least),
            Measure("elsewhere", "Colour away from the face", "Lab units, at edges", "log", of("elsewhere"), away),
        ]

    def in_sample(self, evidence: Mapping[str, Any]) -> dict[str, Any]:
        # as JSON, since it may be null: there are pictures with nothing but a face
        elsewhere = evidence["elsewhere"]
        return {
            "tone_residual": float(evidence["residual"]),
            "colour_elsewhere": canonical_json(None if elsewhere is None else round(elsewhere, 4)),
        }

    @classmethod
    def should_reject(cls, label: Mapping[str, str]) -> bool | None:
        if label["drawing"] not in ("", "photo") or label["faces"] == "0":
            return None
        if label["colour"] == "colour":
            return False if label["keep"] != "0" else None  # a photo that goes for another reason is no loss
        return True if label["colour"] else None

    def _region(self, picture: Picture, box: np.ndarray | None) -> np.ndarray:
        """uint8 (side, side, 3): what is about the face; without a face the whole picture."""
        height, width = picture.rgb.shape[:2]
        x1, y1, x2, y2 = 0, 0, width, height
        if box is not None:
            corners = box.reshape(2, 2) * picture.scale
            half = self.settings.region / 2 * (corners[1] - corners[0])
            centre = corners.mean(axis=0)
            left, top = np.floor(centre - half).astype(int)
            right, bottom = np.ceil(centre + half).astype(int)
            if min(right, width) - max(left, 0) >= 2 and min(bottom, height) - max(top, 0) >= 2:
                x1, y1, x2, y2 = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
        side = (self.settings.side, self.settings.side)
        return cv2.resize(picture.rgb[y1:y2, x1:x2], side, interpolation=cv2.INTER_AREA)


def _values(evidence: pa.Table, column: str) -> np.ndarray:
    """float32 (rows,), NaN where it was not measured."""
    return evidence[column].to_numpy(zero_copy_only=False).astype(np.float32)


def _shrunk(picture: Picture, box: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """A view whose longer side is at most `side`, and the box in its pixels."""
    view = picture.view(side)
    return view, box * np.tile(np.array(view.shape[1::-1]) / (picture.width, picture.height), 2)


def best_boxes(faces: pa.Table) -> dict[int, np.ndarray]:
    """Of each row that has a face the box of the largest, weighed with its score."""
    rows, boxes, scores = flattened(faces, "boxes", "box", "score")
    found: dict[int, tuple[float, np.ndarray]] = {}
    for row, box, score in zip(rows.tolist(), boxes.astype(np.float64), scores.tolist(), strict=True):
        weight = score * (box[2] - box[0]) * (box[3] - box[1])
        if score >= FAINT and weight > found.get(row, (0.0, box))[0]:
            found[row] = weight, box
    return {row: box for row, (_, box) in found.items()}


def tone_residual(rgb: np.ndarray) -> float:
    """Mean distance, in Lab's a and b, of the pixels of uint8 (h, w, 3) from the mean colour of their lightness.

    Levels overlap: a pixel counts in the two that are nearest, so no step between levels is left over.
    """
    lab = cv2.GaussianBlur(cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), (0, 0), BLUR)
    colour = lab[..., 1:].reshape(-1, 2).astype(np.float64)
    at = np.clip(lab[..., 0].ravel().astype(np.float64) / 100 * (LEVELS - 1), 0, LEVELS - 1 - 1e-6)
    below = at.astype(int)
    shares = np.zeros((len(at), LEVELS))
    pixel = np.arange(len(at))
    shares[pixel, below], shares[pixel, below + 1] = 1 - (at - below), at - below
    means = shares.T @ colour / np.maximum(shares.sum(axis=0), 1e-6)[:, None]
    return float(np.hypot(*(colour - shares @ means).T).mean())


def colour_elsewhere(rgb: np.ndarray, face: np.ndarray) -> float | None:
    """Median distance from grey, in Lab's a and b, of the edges of uint8 (h, w, 3) away from a face; None: too few edges.

    `face`: x1, y1, x2, y2.
    """
    luma = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    seen = cv2.magnitude(*(cv2.Sobel(luma, cv2.CV_32F, *axis, scale=1 / 8) for axis in ((1, 0), (0, 1)))) > EDGE
    seen &= (luma > NEITHER[0]) & (luma < NEITHER[1])
    corners = face.reshape(2, 2)
    centre, half = corners.mean(axis=0), AWAY / 2 * (corners[1] - corners[0])
    (left, top), (right, bottom) = (
        np.maximum(np.ceil(centre - half), 0).astype(int),
        np.floor(centre + half).astype(int),
    )
    seen[top : max(bottom + 1, 0), left : max(right + 1, 0)] = False
    if seen.mean() < FEWEST:
        return None
    _, a, b = cv2.split(cv2.cvtColor(rgb[seen][None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB))
    return float(np.median(cv2.magnitude(a, b)))
