"""Scores as they are stored: `scores/UNIT-HASH.parquet`, everything that was learnt in one pass over a unit.

    id                      of an image of which something was learnt
    image                   what its decoding showed (schemas.IMAGES); null where an earlier pass has that
    FILTER-FINGERPRINT      that filter's evidence and `error`; null where it did not see the image

A file is named by its content, so writing it twice changes nothing, two writers cannot overwrite each other, and a
unit's pass is there whole or not at all. Which files there are is listed once, not asked for one by one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from common.hashing import sha256_of_bytes
from common.storage import parquet_bytes
from curation.filters.base import Filter
from curation.filters.evidence import Evidence
from curation.run_directory.run import Run
from curation.run_directory.schemas import IMAGES

IMAGE = pa.struct([field for field in IMAGES if field.name != "id"])
NO_SCORES = pa.schema({"id": pa.string(), "image": IMAGE}).empty_table()


def description_file(column: str) -> str:
    """Path of what a filter's evidence, a column of the scores, was made with."""
    return f"scores/{column}/filter.json"


def score_files(run: Run, folder: str = "scores") -> dict[str, list[str]]:
    """{unit: the files that hold something of it}, of a folder whose files are named by `file_name`."""
    files: dict[str, list[str]] = defaultdict(list)
    for path in run.glob(f"{folder}/*.parquet"):
        files[path.rpartition("/")[2].rpartition("-")[0]].append(path)
    return files


def write_unit(run: Run, folder: str, unit: str, table: pa.Table) -> str:
    """Store what was learnt of a unit's images as `folder/UNIT-HASH.parquet`; its path."""
    data = parquet_bytes(table)
    path = f"{folder}/{unit}-{sha256_of_bytes(data)[:12]}.parquet"
    run.write_bytes(path, data)
    return path


def scores_table(
    ids: Sequence[str], images: Mapping[str, dict[str, Any]], evidence: Mapping[str, Evidence]
) -> pa.Table:
    """One pass over a unit, as it is stored.

    Args:
        images: {id: the row of `IMAGES`} of those that were decoded for the first time.
        evidence: {column: the new evidence, row for row with `ids`}.
    """
    facts = [
        {name: value for name, value in images[key].items() if name != "id"} if key in images else None for key in ids
    ]
    columns = {"id": pa.array(ids, pa.string()), "image": pa.array(facts, IMAGE)}
    for column, scores in evidence.items():
        table = scores.table.drop_columns(["id"]).combine_chunks()
        arrays = [table[name].combine_chunks() for name in table.column_names]
        columns[column] = pa.StructArray.from_arrays(
            [array.chunk(0) if isinstance(array, pa.ChunkedArray) else array for array in arrays],
            fields=list(table.schema),
            mask=pa.array(~scores.seen),
        )
    return pa.table(columns)


def read_scores(run: Run, files: Iterable[str], filters: Iterable[Filter]) -> pa.Table:
    """The rows of these files, with the columns of these filters where they are there."""
    tables = list(run.read_each(list(files), NO_SCORES.column_names, [item.column for item in filters]))
    return pa.concat_tables([NO_SCORES, *tables], promote_options="permissive")


def image_facts(scores: pa.Table) -> pa.Table:
    """The rows of `IMAGES` that these scores hold."""
    rows = scores.filter(scores["image"].is_valid())
    return _flat(rows, "image").select(IMAGES.names).cast(IMAGES)


def evidence_of(scores: pa.Table, item: Filter) -> pa.Table | None:
    """One filter's evidence as a table of its schema; None where it has none."""
    if item.column not in scores.column_names:
        return None
    return _flat(scores.filter(scores[item.column].is_valid()), item.column)


def _flat(rows: pa.Table, column: str) -> pa.Table:
    """`id` and the fields of a struct column, which has no nulls."""
    struct = rows[column].combine_chunks()
    fields = struct.type.names if hasattr(struct.type, "names") else [field.name for field in struct.type]
    return pa.table({"id": rows["id"], **{name: pc.struct_field(struct, name) for name in fields}})
