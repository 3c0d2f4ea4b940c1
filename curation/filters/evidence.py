"""Reading a filter's evidence: tables of numbers, one row an image, that a verdict is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

FAIL, PASS, UNKNOWN = np.int8(0), np.int8(1), np.int8(-1)


@dataclass
class Evidence:
    """One filter's scores of a list of images, row for row; `seen` (rows,) bool: which were scored at all."""

    table: pa.Table
    seen: np.ndarray

    @classmethod
    def align(cls, schema: pa.Schema, ids: Sequence[str], scores: pa.Table | None) -> Evidence:
        """Bring score rows into the order of `ids`. A score written twice counts once: both are the same."""
        table = schema.empty_table() if scores is None else scores.select(schema.names).cast(schema)
        rows = pc.index_in(pa.array(ids, pa.string()), value_set=table["id"].combine_chunks())
        return cls(table.take(rows).combine_chunks(), rows.is_valid().to_numpy(zero_copy_only=False))

    @property
    def errors(self) -> np.ndarray:
        """bool (rows,): scored, but the filter could not."""
        return np.asarray(self.table["error"].is_valid())


def missing(evidence: pa.Table, column: str) -> np.ndarray:
    """bool (rows,): where that evidence is null."""
    return evidence[column].is_null().to_numpy()


def passed(ok: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """int8 (rows,): PASS where `ok`, FAIL where not, UNKNOWN where `unknown` whatever `ok` says."""
    return np.where(unknown, UNKNOWN, np.where(ok, PASS, FAIL)).astype(np.int8)


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """A column of a table in one piece."""
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays([pa.array([], column.type), *column.chunks])


def flattened(evidence: pa.Table, column: str, *fields: str) -> tuple[np.ndarray, ...]:
    """A list<struct> column as flat arrays: the row of each item, then each field, (items,) or (items, length).

    Nulls and empty lists have no item. Rows ascend, so per-row reductions need no sort.
    """
    lists = one_array(evidence[column])
    items = pc.list_flatten(lists)
    arrays = [pc.list_parent_indices(lists).to_numpy()]
    for name in fields:
        values = pc.struct_field(items, name)
        if pa.types.is_list(values.type) or pa.types.is_fixed_size_list(values.type):
            flat = pc.list_flatten(values).to_numpy(zero_copy_only=False)
            arrays.append(flat.reshape(len(items), -1) if len(items) else flat.reshape(0, 0))
        else:
            arrays.append(values.to_numpy(zero_copy_only=False))
    return tuple(arrays)


def largest(evidence: pa.Table, column: str, field: str) -> np.ndarray:
    """float64 (rows,): the largest `field` of each row's items; 0 where it has none."""
    rows, values = flattened(evidence, column, field)
    best = np.zeros(len(evidence))
    np.maximum.at(best, rows, values)
    return best
