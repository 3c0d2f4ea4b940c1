"""Scores x thresholds -> verdicts: pure functions, no model, no image, no Ray.

The same function decides while images are scored (what need not be tried any more) and when a cut is made, so
the two cannot disagree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from curation.filters.base import FAIL, PASS, UNKNOWN, Filter
from curation.filters.faces import prominent
from curation.recipe.recipe import Thresholds

# the paper's five steps run on whole images; that the caption is about the face that is left is our own check
CHECKS = ("grayscale", "text", "faces", "caption_box", "anime")
VERDICT = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("unit", pa.string()),
        pa.field("verdict", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("failing", pa.list_(pa.string())),
        *(pa.field(check, pa.int8()) for check in CHECKS),
        pa.field("audited", pa.bool_()),
        pa.field("face", pa.int32()),
        pa.field("caption_face", pa.int32()),
    ]
)


@dataclass
class Evidence:
    """One filter's scores of a list of images, row for row; `seen` (rows,) bool: which were scored at all."""

    table: pa.Table
    seen: np.ndarray

    @classmethod
    def align(cls, schema: pa.Schema, ids: Sequence[str], scores: pa.Table | None) -> Evidence:
        """Bring score rows into the order of `ids`. A score written twice counts once: both are the same."""
        table = schema.empty_table() if scores is None else scores.select(schema.names).cast(schema)
        place = {text: row for row, text in enumerate(table["id"].to_pylist())}
        rows = pa.array([place.get(text) for text in ids], pa.int64())
        return cls(table.take(rows).combine_chunks(), np.array([text in place for text in ids], dtype=bool))

    @property
    def errors(self) -> np.ndarray:
        """bool (rows,): scored, but the filter could not."""
        return np.asarray(self.table["error"].is_valid())


@dataclass
class Judgement:
    """Verdicts of a list of images. `checks[name]`: int8 (rows,); the masks are bool (rows,)."""

    checks: dict[str, np.ndarray]
    errors: dict[str, np.ndarray]
    face: np.ndarray  # int32: which detection is the face to train on, -1 for none
    caption_face: np.ndarray  # int32: whose caption, -1 for none

    @property
    def rejected(self) -> np.ndarray:
        return np.any([values == FAIL for values in self.checks.values()], axis=0)

    @property
    def kept(self) -> np.ndarray:
        return np.all([values == PASS for values in self.checks.values()], axis=0)

    @property
    def undecided(self) -> np.ndarray:
        return ~self.rejected & ~self.kept

    def failing(self) -> list[list[str]]:
        names = list(self.checks)
        failed = np.stack([self.checks[name] == FAIL for name in names], axis=1)
        return [[name for name, flag in zip(names, row, strict=True) if flag] for row in failed]

    def reasons(self) -> list[str | None]:
        """The first failing check in the paper's order; `NAME_error` where the filter itself failed."""
        return [
            None if not failing else f"{failing[0]}_error" if self._errored(failing[0], row) else failing[0]
            for row, failing in enumerate(self.failing())
        ]

    def _errored(self, check: str, row: int) -> bool:
        return check in self.errors and bool(self.errors[check][row])


def judge(
    evidence: Mapping[str, Evidence],
    filters: Mapping[str, Filter],
    thresholds: Thresholds,
    boxes: Sequence[list[list[float]]],
) -> Judgement:
    """Verdicts from whatever scores there are.

    `boxes`: for each image FaceCaption's boxes, upright full-size pixels (`units.upright_boxes`).
    """
    checks: dict[str, np.ndarray] = {}
    errors: dict[str, np.ndarray] = {}
    for name, item in filters.items():
        scores = evidence[name]
        verdict = item.verdict(scores.table, getattr(thresholds, name))
        errors[name] = scores.seen & scores.errors
        checks[name] = np.where(errors[name], FAIL, np.where(scores.seen, verdict, UNKNOWN)).astype(np.int8)
    face, caption_face, overlap = choose_faces(evidence["faces"].table, thresholds, filters["faces"].detector, boxes)
    known = (checks["faces"] != UNKNOWN) & (face >= 0)
    checks["caption_box"] = np.where(
        known, np.where(overlap >= thresholds.faces.min_box_iou, PASS, FAIL), UNKNOWN
    ).astype(np.int8)
    return Judgement({name: checks[name] for name in CHECKS}, errors, face, caption_face)


def choose_faces(
    faces: pa.Table, thresholds: Thresholds, detector: str, boxes: Sequence[list[list[float]]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The face to train on: of those that count, the one that best overlaps a box of FaceCaption.

    Returns:
        Index of the detection (-1: none), index of the FaceCaption box (-1: none), their IoU; (rows,) each.
    """
    rows, index = prominent(faces, thresholds.faces, detector)
    face = np.full(faces.num_rows, -1, dtype=np.int32)
    caption = np.full(faces.num_rows, -1, dtype=np.int32)
    best = np.zeros(faces.num_rows)
    found = faces["boxes"].to_pylist() if len(rows) else []
    for row, place in zip(rows.tolist(), index.tolist(), strict=True):
        if face[row] < 0:
            face[row] = place  # the best score, should none overlap
        for number, box in enumerate(boxes[row]):
            overlap = iou(found[row][place]["box"], box)
            if overlap > best[row]:
                best[row], face[row], caption[row] = overlap, place, number
    return face, caption, best


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes x1, y1, x2, y2."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def verdict_table(
    ids: Sequence[str], unit: str, status: Sequence[str | None], judged: Judgement, audited: Any
) -> pa.Table:
    """A unit's verdicts as they are stored. `status`: of the decode; None where that has not happened."""
    undecodable = np.array([text is not None and text != "ok" for text in status], dtype=bool)
    pending = np.array([text is None for text in status], dtype=bool)
    verdict = np.select(
        [undecodable, pending, judged.kept, judged.rejected],
        ["undecodable", "undecided", "kept", "rejected"],
        "undecided",
    )
    reasons = [text if bad else why for bad, text, why in zip(undecodable, status, judged.reasons(), strict=True)]
    return pa.table(
        {
            "id": pa.array(ids, pa.string()),
            "unit": pa.array([unit] * len(ids), pa.string()),
            "verdict": pa.array(verdict.tolist(), pa.string()),
            "reason": pa.array(reasons, pa.string()),
            "failing": pa.array(judged.failing(), pa.list_(pa.string())),
            **{name: pa.array(values, pa.int8()) for name, values in judged.checks.items()},
            "audited": pa.array(np.asarray(audited), pa.bool_()),
            "face": pa.array(judged.face, pa.int32()),
            "caption_face": pa.array(judged.caption_face, pa.int32()),
        },
        schema=VERDICT,
    )
