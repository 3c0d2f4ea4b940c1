"""What verdicts are made of, of many units at once: only the columns that count, and no Python object an image.

A cut of ten million images reads ten thousand units; one by one, with rows as Python objects, that took nine minutes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from curation.filters.base import Filter
from curation.filters.caption_box import CaptionBoxes
from curation.filters.evidence import Evidence, one_array
from curation.run_directory.attempts import images_file
from curation.run_directory.candidates import id_numbers
from curation.run_directory.run import Run
from curation.run_directory.scores import NO_SCORES
from curation.run_directory.units import FACTS, Unit, caption_boxes, turns_of

BOXES = "faces.list.element.box"  # without the captions


@dataclass(frozen=True)
class ManyUnits:
    """Images of units, row for row: unit after unit, each in the order of its ids.

    `ids`: uint64 (rows,); `units`: their names; `status`: of the decode, null where that was not tried; `boxes`: none of an
    image that was not decoded.
    """

    ids: np.ndarray
    units: pa.DictionaryArray
    status: pa.Array
    evidence: dict[str, Evidence]
    boxes: CaptionBoxes


def read_many(run: Run, units: Sequence[Unit], filters: Mapping[str, Filter]) -> ManyUnits:
    """Everything that is known of the images of some units.

    Raises:
        DamagedFile: of some images it is not said what was fetched.
    """
    ids = np.concatenate([np.zeros(0, np.uint64), *(np.frombuffer(unit.numbers, np.uint64) for unit in units)])
    codes = np.repeat(np.arange(len(units), dtype=np.int32), [len(unit) for unit in units])
    names = pa.DictionaryArray.from_arrays(pa.array(codes), pa.array([unit.name for unit in units], pa.string()))
    files = [path for unit in units for path in unit.scores]
    columns = [f"image.{name}" for name in FACTS]
    scored = list(run.read_each(files, ["id", *columns], [item.column for item in filters.values()]))
    nothing = NO_SCORES.select(["id"])
    scores = pa.concat_tables([nothing, *scored], promote_options="permissive")
    rows = _Rows(ids, id_numbers(scores["id"]))
    image = rows.aligned(scores, "image")
    facts = _fields(image) if image is not None else {name: pa.nulls(len(ids)) for name in FACTS}
    evidence = {}
    for name, item in filters.items():
        struct = rows.aligned(scores, item.column)
        if struct is None:  # none of these images was seen by it
            fields = [field for field in item.schema if field.name != "id"]
            struct = pa.nulls(len(ids), pa.struct(fields))
        evidence[name] = Evidence(_table_of(struct, item), struct.is_valid().to_numpy(zero_copy_only=False))
    status = facts["status"].cast(pa.string())
    return ManyUnits(ids, names, status, evidence, _boxes(run, units, ids, turns_of(facts)))


def _table_of(struct: pa.StructArray, item: Filter) -> pa.Table:
    fields = _fields(struct)
    return pa.table({field.name: fields[field.name].cast(field.type) for field in item.schema if field.name != "id"})


def _fields(struct: pa.StructArray) -> dict[str, pa.Array]:
    return {field.name: column for field, column in zip(struct.type, struct.flatten(), strict=True)}


class _Rows:
    """Which row of what was stored each image is."""

    def __init__(self, ids: np.ndarray, stored: np.ndarray):
        self._count = len(ids)
        self._is_same = len(ids) == len(stored) and bool((ids == stored).all())
        if not self._is_same:
            order = np.argsort(ids, kind="stable")
            place = np.searchsorted(ids, stored, sorter=order)
            place = order[np.minimum(place, max(len(ids) - 1, 0))] if len(ids) else np.zeros(len(stored), np.int64)
            self._known = ids[place] == stored if len(ids) else np.zeros(len(stored), bool)
            self._place = place

    def aligned(self, stored: pa.Table, column: str) -> pa.StructArray | None:
        """A struct column row for row with the images, null where nothing is stored; None where there is none."""
        if column not in stored.column_names:
            return None
        whole = one_array(stored[column])
        if self._is_same:
            return whole
        # scored in several passes: a column is in the file of the pass in which it was made. Twice is the same twice
        there = np.flatnonzero(self._known & whole.is_valid().to_numpy(zero_copy_only=False))
        rows = np.full(self._count, -1)
        rows[self._place[there]] = there
        return whole.take(pa.array(rows, mask=rows < 0))


def _boxes(run: Run, units: Sequence[Unit], ids: np.ndarray, turns: np.ndarray) -> CaptionBoxes:
    paths = [images_file(unit.tar) for unit in units]
    kept, start = [], 0
    for unit, path, table in zip(units, paths, run.read_each(paths, ["id", BOXES]), strict=True):
        wanted, there = ids[start : start + len(unit)], id_numbers(table["id"])
        start += len(unit)
        if len(there) != len(wanted) or (there != wanted).any():
            order = np.argsort(there, kind="stable")
            place = np.minimum(np.searchsorted(there, wanted, sorter=order), max(len(there) - 1, 0))
            rows = order[place] if len(there) else np.zeros(0, np.int64)
            if lacking := len(wanted) - int((there[rows] == wanted).sum() if len(there) else 0):
                raise run.damaged(path, f"lacks {lacking:,} of its images")
            table = table.take(pa.array(rows))
        kept.append(table["faces"])
    chunks = [chunk for column in kept for chunk in column.chunks]
    return caption_boxes(pa.concat_arrays(chunks), turns) if chunks else CaptionBoxes.none()
