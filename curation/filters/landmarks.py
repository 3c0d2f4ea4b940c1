"""A second opinion on where the eyes are: dlib's predictor of five points, inside the face detector's box.

On a face the two agree within a twentieth of it. Where there are no eyes to be seen (a bar, a word or a hand over them), or
where they are not where a face has them (upside down, some animals and drawings), each guesses otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from common.decode import Picture
from common.settings import Section
from curation.filters.base import Filter, Measure
from curation.filters.evidence import missing, passed
from curation.filters.faces import largest_face
from curation.filters.quality import Quality


class LandmarksThresholds(Section):
    max_apart: float = Field(
        0.1, ge=0, description="mean distance between the eyes' two places, as a share of the face's side"
    )


class Landmarks(Filter):
    """Rejects faces on whose eyes the face detector and dlib do not agree. Where there is no face it says nothing."""

    name, label, rejection = "landmarks", "landmarks", "eyes that are not where a face has them"
    version, needs, drawn = 1, ("faces",), "faces"
    optional = True
    columns = (pa.field("apart", pa.float32()),)
    Thresholds = LandmarksThresholds
    libraries = ("dlib",)
    grid = {"max_apart": [0.06, 0.07, 0.08, 0.09, 0.1, 0.11, 0.12, 0.13, 0.14, 0.16, 0.2]}

    @classmethod
    def weight_names(cls, settings: Section) -> dict[str, str]:
        return {"predictor": "dlib-5-landmarks"}

    @cached_property
    def predictor(self) -> Any:
        import dlib  # late: verdicts and reports do without

        return dlib.shape_predictor(str(self.files["predictor"].path))

    def score(self, pictures: Sequence[Picture], needed: Mapping[str, pa.Table]) -> pa.Table:
        values = []
        for picture, faces in zip(pictures, needed["faces"]["boxes"].to_pylist(), strict=True):
            face = largest_face(faces or ())
            values.append(None if faces is None else self._apart(picture, face) if face else 0.0)
        return pa.table({"apart": pa.array(values, pa.float32())})

    def _apart(self, picture: Picture, face: Mapping[str, Any]) -> float:
        import dlib

        corners = np.array(face["box"], np.float64).reshape(2, 2) * picture.scale
        theirs = np.array(face["landmarks"], np.float64).reshape(5, 2)[:2] * picture.scale
        side = float((corners[1] - corners[0]).max())
        # dlib's predictor was trained on square boxes from the brows to the chin
        square = 0.9 * side
        left, top = (corners.mean(axis=0) - square / 2 + [0, 0.04 * square]).round().astype(int).tolist()
        rectangle = dlib.rectangle(left, top, left + round(square), top + round(square))
        points = self.predictor(np.ascontiguousarray(picture.rgb), rectangle).parts()
        corners_of_eyes = np.array([(point.x, point.y) for point in points[:4]], np.float64)
        ours = corners_of_eyes.reshape(2, 2, 2).mean(axis=1)
        ours = ours[np.argsort(ours[:, 0])]  # left of the picture first, as the detector's
        return float(np.hypot(*(ours - theirs).T).mean() / max(side, 1e-6))

    def verdict(self, evidence: pa.Table, thresholds: LandmarksThresholds) -> np.ndarray:
        return passed(apart(evidence) <= np.float32(thresholds.max_apart), missing(evidence, "apart"))

    def measures(self, thresholds: LandmarksThresholds) -> list[Measure]:
        unit = "share of the face, between dlib's eyes and the detector's"
        return [Measure("apart", "Eyes in two places", unit, "log", apart, thresholds.max_apart, above=False)]

    def in_sample(self, evidence: Mapping[str, Any]) -> dict[str, Any]:
        return {"eyes_apart": float(evidence["apart"])}

    @classmethod
    def should_reject(cls, label: Mapping[str, str]) -> bool | None:
        return Quality.should_reject(label)


def apart(evidence: pa.Table) -> np.ndarray:
    """float64 (rows,); 0 where there is no face, so nothing contradicts."""
    return evidence["apart"].to_numpy(zero_copy_only=False).astype(np.float64)
