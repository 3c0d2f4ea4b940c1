"""How good a portrait is to train on: size, sharpness, pose and light of the face, and JPEG's blocks.

Scores, shown as histograms; an image is rejected only where the recipe sets a limit. All but the blocks are of the largest
confident face. What cannot be measured (no face, a scaled decode) breaks no limit: that there must be a face is for `faces`
to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from pydantic import Field

from common.decode import Picture
from common.hashing import canonical_json
from common.settings import Section, Share
from curation.filters.base import Filter, Measure
from curation.filters.evidence import missing, passed
from curation.filters.faces import largest_face
from model.conditioning.face_measures import measures_of

BLOCK = 8  # pixels of JPEG's blocks


class QualityThresholds(Section):
    min_face_side: float | None = Field(None, ge=0, description="pixels of the face box's shorter side")
    min_sharpness: float | None = Field(None, ge=0, description="variance of the Laplacian of the face at 128 pixels")
    min_evenness: Share | None = Field(
        None, description="fine detail of the face where it is weakest, over across it; shaken: near 0"
    )
    max_yaw: float | None = Field(None, ge=0, le=90, description="degrees to either side, estimated from five points")
    max_roll: float | None = Field(None, ge=0, le=180, description="degrees between the line of the eyes and level")
    max_clipped: Share | None = Field(None, description="share of the face that is all black or all white")
    min_eyes_at: float | None = Field(
        None, le=1, description="how far down the face box the eyes are, share of its height; cut below them: near 0"
    )
    min_box_ratio: Share | None = Field(None, description="width over height of the face box; half hidden: narrow")
    max_blockiness: float | None = Field(None, ge=0, description="steps at the edges of 8 x 8 blocks over those within")


# of each number: its threshold, title, unit, scale of the histogram
NUMBERS = {
    "face_side": ("min_face_side", "Face: shorter side", "pixels", "log"),
    "sharpness": ("min_sharpness", "Face: sharpness", "variance of the Laplacian at 128 pixels", "log"),
    "evenness": ("min_evenness", "Face: detail in all directions", "weakest over across it", "linear"),
    "yaw": ("max_yaw", "Face: turned aside", "degrees, estimated", "linear"),
    "roll": ("max_roll", "Face: tilted", "degrees", "linear"),
    "clipped": ("max_clipped", "Face: black or white", "share of the face", "linear"),
    "eyes_at": ("min_eyes_at", "Face: eyes in the box", "share of its height, from the top", "linear"),
    "box_ratio": ("min_box_ratio", "Face: shape of the box", "width over height", "linear"),
    "blockiness": ("max_blockiness", "JPEG blocks", "steps at their edges over those within", "linear"),
}


class Quality(Filter):
    """Measures the largest face and JPEG's blocks; rejects what breaks a limit of the recipe's, of which none is set."""

    name, label, rejection = "quality", "quality", "below the quality that the recipe asks for"
    version, needs, drawn = 3, ("faces",), "faces"
    optional = True
    columns = (
        pa.field("measured", pa.bool_()),
        *(pa.field(number, pa.float32()) for number in NUMBERS),
        pa.field("brightness", pa.float32()),
    )
    Thresholds = QualityThresholds
    grid = {
        "min_face_side": [16, 24, 32, 40],
        "min_sharpness": [5, 10, 20, 30, 40],
        "min_evenness": [0, 0.1, 0.15, 0.2, 0.25],
        "min_eyes_at": [0, 0.05, 0.1, 0.15, 0.2],
        "min_box_ratio": [0.45, 0.5, 0.55, 0.58, 0.6],
    }

    def score(self, pictures: Sequence[Picture], needed: Mapping[str, pa.Table]) -> pa.Table:
        rows = []
        for picture, faces in zip(pictures, needed["faces"]["boxes"].to_pylist(), strict=True):
            row = dict.fromkeys((field.name for field in self.columns), None)
            if faces is not None:
                face = largest_face(faces)
                row |= {"measured": True, "blockiness": blockiness(picture)} | (
                    measures_of(picture, face) if face else {}
                )
            rows.append(row)
        return pa.Table.from_pylist(rows, schema=pa.schema(self.columns))

    def verdict(self, evidence: pa.Table, thresholds: QualityThresholds) -> np.ndarray:
        ok = np.ones(len(evidence), bool)
        for number, (threshold, *_) in NUMBERS.items():
            limit = getattr(thresholds, threshold)
            if limit is not None:
                values, limit = self._values(evidence, number), np.float32(limit)
                within = values >= limit if threshold.startswith("min_") else np.abs(values) <= limit
                ok &= within | np.isnan(values)
        return passed(ok, missing(evidence, "measured"))

    def measures(self, thresholds: QualityThresholds) -> list[Measure]:
        def measure(number: str) -> Measure:
            threshold, title, unit, scale = NUMBERS[number]
            limit, above = getattr(thresholds, threshold), threshold.startswith("min_")
            note = "" if limit is not None else "no limit is set"

            def value_of(rows: pa.Table) -> np.ndarray:
                values = self._values(rows, number).astype(np.float64)
                return values if above else np.abs(values)  # degrees to either side

            return Measure(
                number, title, unit, scale, value_of, limit, above=above, decides=limit is not None, note=note
            )

        return [measure(number) for number in NUMBERS]

    def in_sample(self, evidence: Mapping[str, Any]) -> dict[str, Any]:
        # in one string, since which numbers there are differs from image to image: null was not measured
        numbers = {number: evidence[number] for number in (*NUMBERS, "brightness")}
        rounded = {number: None if value is None else round(value, 4) for number, value in numbers.items()}
        return {"quality": canonical_json(rounded)}

    @classmethod
    def should_reject(cls, label: Mapping[str, str]) -> bool | None:
        if label["keep"] != "0":
            return False if label["keep"] else None
        # what is to go for a reason that another filter looks for tells nothing of quality
        photo = label["drawing"] in ("", "photo") and label["colour"] in ("", "colour")
        return True if photo and label["text"] != "much" and label["faces"] in ("", "1") else None

    @staticmethod
    def _values(evidence: pa.Table, number: str) -> np.ndarray:
        """float32 (rows,), NaN where it was not measured."""
        return evidence[number].to_numpy(zero_copy_only=False).astype(np.float32)


def blockiness(picture: Picture) -> float | None:
    """How much larger the steps between pixels are at the edges of an 8 x 8 grid than within; 1: no grid is seen.

    The grid's place is the one that shows it best: a crop moves it. None where the picture was decoded smaller, which
    averages blocks away, or has too few of them.
    """
    if picture.rgb.shape[:2] != (picture.height, picture.width) or min(picture.width, picture.height) < 4 * BLOCK:
        return None
    luma = cv2.cvtColor(picture.rgb, cv2.COLOR_RGB2GRAY).astype(np.int16)
    return float(np.mean([_steps_at_edges(np.abs(np.diff(luma, axis=axis)).mean(axis=1 - axis)) for axis in (0, 1)]))


def _steps_at_edges(steps: np.ndarray) -> float:
    """`steps` (n,): the mean step from each row or column of pixels to the next."""
    by_place = np.array([steps[place::BLOCK].mean() for place in range(BLOCK)])
    best = by_place.argmax()
    return float(by_place[best] / max(np.delete(by_place, best).mean(), 1e-3))
