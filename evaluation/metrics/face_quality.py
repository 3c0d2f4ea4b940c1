"""Pose and quality of the largest face, from the face detector's points: whether it is turned as the reference is, how large
and how sharp it is. Nothing of it was published."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from common.decode import Picture
from common.pinned_files.weights import WeightError, in_short
from evaluation.metrics.base import POSITIVE, AnyFigure, Features, Figure, Metric, Pair, Sources, Unavailable
from evaluation.metrics.found_faces import largest
from model.conditioning.face_measures import measures_of

KEPT = ("yaw", "roll", "sharpness")  # of the measures of a face


class FaceQuality(Metric):
    """Pose agreement with the reference; size and sharpness of the drawn face."""

    name, version = "face-quality", 1
    columns = tuple(pa.field(number, pa.float64()) for number in (*KEPT, "size"))

    def __init__(self, sources: Sources):
        try:
            self._faces = sources.faces
        except WeightError as error:
            raise Unavailable(in_short(error)) from error

    def describe(self) -> dict[str, Any]:
        return {"detector": self._faces.describe()}

    def features(self, rgb: np.ndarray) -> Features:
        row: dict[str, Any] = dict.fromkeys(field.name for field in self.columns)
        if faces := self._faces(rgb):
            face, (height, width) = largest(faces), rgb.shape[:2]
            told = {"box": face.box.tolist(), "landmarks": face.landmarks.ravel().tolist()}
            measures = measures_of(Picture(rgb, width, height, 1, ""), told)
            row |= {number: measures.get(number) for number in KEPT}
            row["size"] = measures["face_side"] / min(height, width)
        return row

    def unusable(self, reference: Features) -> str:
        return "" if reference["size"] is not None else "no face was found"

    def remark(self, drawn: Features) -> str:
        return self.unusable(drawn)

    def scores(self, pair: Pair) -> dict[str, float | None]:
        apart = {f"{turn}_apart": _apart(pair.reference[turn], pair.drawn[turn]) for turn in ("yaw", "roll")}
        return {**apart, "size": pair.drawn["size"], "sharpness": pair.drawn["sharpness"]}

    def figures(self) -> Sequence[AnyFigure]:
        without = "pictures without a face left out"
        pose = [
            Figure(
                f"pose: {turn} apart", f"{turn}_apart", higher_is_better=False, bounds=(0, 180),
                says=f"degrees from the reference's, estimated from five points; {without}",
            )
            for turn in ("yaw", "roll")
        ]  # fmt: skip
        size = f"shorter side of the face over that of the picture; {without}"
        sharp = f"variance of the Laplacian of the face at 128 pixels; noise raises it too; {without}"
        return [
            *pose,
            Figure("face: size", "size", higher_is_better=None, says=size, bounds=POSITIVE),
            Figure("face: sharpness", "sharpness", higher_is_better=None, says=sharp, bounds=POSITIVE),
        ]


def _apart(one: float | None, other: float | None) -> float | None:
    """Degrees between two directions, 0 to 180."""
    return None if one is None or other is None else abs((one - other + 180) % 360 - 180)
