"""FaceSim: the cosine of two identity vectors, by one recogniser; and how far a picture copies its reference.

Sound: the largest face of each photo, as the recogniser wants its channels; a picture without a face counts 0, and the mean
without such pictures stands beside it, with the share that has a face. Reconstructed (facts of the published script,
image2Image_score.py): buffalo_l given RGB where it takes BGR, the first face of the list, failures left out without a word.

Copy-paste (MultiID-Bench, WithAnyone, ICLR 2026): (angle(drawn, target) - angle(drawn, reference)) / angle(target, reference)
with another photo of the same person as the target: 1 a copy of the reference, -1 the target itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from common.pinned_files.weights import WeightError, in_short
from evaluation.metrics.base import (
    COSINE,
    SHARE,
    AnyFigure,
    Features,
    Figure,
    Metric,
    NotMeasured,
    Pair,
    Sources,
    Unavailable,
)
from evaluation.metrics.found_faces import largest
from evaluation.metrics.vectors import cosine
from model.conditioning.face_finder import FaceFinder
from model.conditioning.faces import Face, NoFaceError
from model.conditioning.identity import EncoderName

VECTOR = pa.list_(pa.float32())
WITHOUT_ARCFACE = "their recogniser is ArcFace's buffalo_l: this one cannot stand for it"


class FaceSimilarity(Metric):
    """FaceSim by one recogniser."""

    version = 1
    columns = (
        pa.field("faces", pa.int32()),
        pa.field("largest", VECTOR),
        pa.field("first_swapped", VECTOR),  # of the face that the detector is surest of, with red and blue exchanged
    )

    def __init__(self, recogniser: EncoderName, sources: Sources):
        self.name = f"face-similarity-{recogniser}"  # type: ignore[misc]
        self.recogniser: EncoderName = recogniser
        try:
            self._faces = sources.faces
            self._finder = FaceFinder(identity=recogniser, weights=sources.weights)
            self._swapped = None  # only ArcFace's channels were ever exchanged
            if recogniser == "arcface":
                self._swapped = FaceFinder(identity=recogniser, weights=sources.weights, channel_order="rgb")
        except WeightError as error:
            raise Unavailable(in_short(error)) from error

    def describe(self) -> dict[str, Any]:
        return self._finder.describe()

    def features(self, rgb: np.ndarray) -> Features:
        faces = self._faces(rgb)
        row: dict[str, Any] = {"faces": len(faces), "largest": None, "first_swapped": None}
        if faces:
            row["largest"] = _embedded(self._finder, rgb, largest(faces))
            if self._swapped is not None:
                row["first_swapped"] = _embedded(self._swapped, rgb, faces[0])
        return row

    def scores(self, pair: Pair) -> dict[str, float | None]:
        reference, drawn, target = pair.reference, pair.drawn, pair.target
        numbers: dict[str, float | None] = {
            "detected": float(drawn["largest"] is not None),
            "similarity": cosine(reference["largest"], drawn["largest"]),
            "swapped": cosine(reference["first_swapped"], drawn["first_swapped"]),
            "copy_paste": None,
        }
        if target is not None:
            numbers["copy_paste"] = copy_paste(reference["largest"], drawn["largest"], target["largest"])
        return numbers

    def unusable(self, reference: Features) -> str:
        return "" if reference["largest"] else "no face to recognise"

    def remark(self, drawn: Features) -> str:
        return self.unusable(drawn)

    def figures(self) -> Sequence[AnyFigure]:
        title = f"FaceSim, {self.recogniser}"
        sound = [
            Figure(title, "similarity", of_failures=0.0, says="the largest face; a picture without a face counts 0", bounds=COSINE),
            Figure(f"{title}, faces only", "similarity", says="pictures without a face left out", bounds=COSINE),
            Figure("face found", "detected", of_failures=0.0, says="share of pictures with a face to recognise", bounds=SHARE),
            Figure(
                f"copy-paste, {self.recogniser}", "copy_paste", higher_is_better=False, bounds=COSINE,
                says="1 a copy of the reference, -1 the other photo of the person; where there is one",
            ),
        ]  # fmt: skip
        if self._swapped is None:
            return [*sound, NotMeasured(title, "reconstructed", WITHOUT_ARCFACE)]
        says = "red and blue exchanged, the first face, failures left out; 0 where nothing is left"
        return [*sound, Figure(title, "swapped", "reconstructed", of_none=0.0, says=says, bounds=COSINE)]


def _embedded(finder: FaceFinder, rgb: np.ndarray, face: Face) -> list[float] | None:
    try:
        identity = finder.embed(rgb, face).identity
    except NoFaceError:
        return None
    return None if identity is None else identity.astype(np.float32).tolist()


def copy_paste(
    reference: Sequence[float] | None, drawn: Sequence[float] | None, target: Sequence[float] | None
) -> float | None:
    """From three identity vectors; None where one is not there, or target and reference are one picture."""
    cosines = cosine(drawn, target), cosine(drawn, reference), cosine(target, reference)
    if None in cosines:
        return None
    to_target, to_reference, apart = np.arccos(np.clip(np.array(cosines, np.float64), -1, 1))
    return float((to_target - to_reference) / apart) if apart > 1e-6 else None
