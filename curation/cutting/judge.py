"""Scores x thresholds -> verdicts: pure functions, no model, no image, no Ray.

The same function decides while images are scored (what need not be tried any more) and when a cut is made, so
the two cannot disagree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from curation.filters.base import Filter
from curation.filters.caption_box import Boxes, CaptionBox, ChosenFaces, choose_faces
from curation.filters.evidence import FAIL, PASS, UNKNOWN, Evidence
from curation.filters.registry import Thresholds, check_names


def verdict_schema(checks: Sequence[str]) -> pa.Schema:
    """Of cuts/NAME/verdicts/*.parquet: a column int8 a check (1 passed, 0 failed, -1 not evaluated)."""
    return pa.schema(
        [
            pa.field("id", pa.string()),
            pa.field("unit", pa.dictionary(pa.int32(), pa.string())),
            pa.field("verdict", pa.string()),
            pa.field("reason", pa.string()),
            pa.field("failing", pa.list_(pa.string())),
            *(pa.field(check, pa.int8()) for check in checks),
            pa.field("audited", pa.bool_()),
            pa.field("face", pa.int32()),
            pa.field("caption_face", pa.int32()),
        ]
    )


@dataclass
class Judgement:
    """Verdicts of a list of images. `checks[name]`: int8 (rows,); the masks are bool (rows,)."""

    checks: dict[str, np.ndarray]
    errors: dict[str, np.ndarray]
    chosen: ChosenFaces

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

    def reason(self, row: int, failing: list[str]) -> str | None:
        """The first of a row's `failing` checks in the paper's order; `NAME_error` where the filter itself failed."""
        if not failing:
            return None
        errors = self.errors.get(failing[0])
        return f"{failing[0]}_error" if errors is not None and errors[row] else failing[0]


def judge(
    evidence: Mapping[str, Evidence], filters: Mapping[str, Filter], thresholds: Thresholds, boxes: Boxes
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
    chosen = choose_faces(evidence["faces"].table, thresholds.faces, filters["faces"].detector, boxes)
    checks[CaptionBox.name] = CaptionBox().verdict(checks["faces"], chosen, thresholds.faces)
    return Judgement({name: checks[name] for name in check_names(filters)}, errors, chosen)


def verdict_table(
    ids: Sequence[str], unit: str, status: Sequence[str | None], judged: Judgement, audited: np.ndarray
) -> pa.Table:
    """A unit's verdicts as they are stored. `status`: of the decode; None where that has not happened."""
    undecodable = np.array([text is not None and text != "ok" for text in status], dtype=bool)
    pending = np.array([text is None for text in status], dtype=bool)
    verdict = np.select(
        [undecodable, pending, judged.kept, judged.rejected],
        ["undecodable", "undecided", "kept", "rejected"],
        "undecided",
    )
    failing = judged.failing()
    reasons = [
        text if bad else judged.reason(row, failing[row])
        for row, (bad, text) in enumerate(zip(undecodable, status, strict=True))
    ]
    columns = {
        "id": ids,
        "unit": [unit] * len(ids),
        "verdict": verdict.tolist(),
        "reason": reasons,
        "failing": failing,
        **judged.checks,
        "audited": audited,
        "face": judged.chosen.face,
        "caption_face": judged.chosen.caption_face,
    }
    return pa.table(columns, schema=verdict_schema(list(judged.checks)))
