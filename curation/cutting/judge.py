"""Scores x thresholds -> verdicts: pure functions, no model, no image, no Ray.

The same function decides while images are scored (what need not be tried any more) and when a cut is made, so
the two cannot disagree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.filters.base import Filter
from curation.filters.caption_box import CaptionBox, CaptionBoxes, ChosenFaces, choose_faces
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

    def failing(self) -> pa.ListArray:
        """Of each image the names of the checks that reject it."""
        failed = self._failed()
        rows, checks = np.nonzero(failed)
        names = pa.DictionaryArray.from_arrays(pa.array(checks, pa.int32()), pa.array(list(self.checks), pa.string()))
        offsets = np.append(0, np.cumsum(np.bincount(rows, minlength=len(failed))))
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), names.cast(pa.string()))

    def reason(self) -> pa.Array:
        """Of each image the first of its failing checks in the paper's order; `NAME_error` where the filter itself failed;
        null where none fails."""
        failed, names = self._failed(), list(self.checks)
        broken = np.stack([self.errors.get(name, np.zeros(len(failed), bool)) for name in names], axis=1)
        first, rows = failed.argmax(axis=1), np.arange(len(failed))
        codes = pa.array(first + len(names) * broken[rows, first], pa.int32(), mask=~failed.any(axis=1))
        words = pa.array([*names, *(f"{name}_error" for name in names)], pa.string())
        return pa.DictionaryArray.from_arrays(codes, words).cast(pa.string())

    def _failed(self) -> np.ndarray:
        return np.stack([values == FAIL for values in self.checks.values()], axis=1)


def judge(
    evidence: Mapping[str, Evidence], filters: Mapping[str, Filter], thresholds: Thresholds, boxes: CaptionBoxes
) -> Judgement:
    """Verdicts from whatever scores there are."""
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
    ids: pa.Array, units: pa.DictionaryArray, status: pa.Array, judged: Judgement, audited: np.ndarray
) -> pa.Table:
    """Verdicts as they are stored. `status`: of the decode; null where that has not happened."""
    undecodable = pc.fill_null(pc.not_equal(status, "ok"), False)
    decided = [undecodable.to_numpy(zero_copy_only=False), ~status.is_valid().to_numpy(zero_copy_only=False)]
    words = ["undecodable", "undecided", "kept", "rejected", "undecided"]
    codes = np.select([*decided, judged.kept, judged.rejected], [0, 1, 2, 3], 4)
    verdict = pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(words)).cast(pa.string())
    columns = {
        "id": ids,
        "unit": units,
        "verdict": verdict,
        "reason": pc.if_else(undecodable, status, judged.reason()),
        "failing": judged.failing(),
        **judged.checks,
        "audited": audited,
        "face": judged.chosen.face,
        "caption_face": judged.chosen.caption_face,
    }
    return pa.table(columns, schema=verdict_schema(list(judged.checks)))
