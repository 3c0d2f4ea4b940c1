"""Candidates as they are stored: one row an image, in buckets that are ranges of the id."""

from __future__ import annotations

import binascii
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from common.settings import RecipeError
from curation.run_directory.run import Run
from curation.run_directory.schemas import CANDIDATE, SelectedCounts

SELECTED_COUNTS = "selected/counts.json"


def id_numbers(ids: Sequence[str] | pa.ChunkedArray) -> np.ndarray:
    """uint64 (ids,): the numbers that their 16 hex digits are. Of an Arrow column without a Python object an id."""
    if not isinstance(ids, pa.ChunkedArray):
        return np.array([int(text, 16) for text in ids], dtype=np.uint64)
    numbers = [_numbers_of(chunk) for chunk in ids.chunks if len(chunk)]
    return np.concatenate([np.zeros(0, np.uint64), *numbers])


def _numbers_of(ids: pa.Array) -> np.ndarray:
    digits = ids.cast(pa.binary()).cast(pa.binary(16))
    data = memoryview(digits.buffers()[1])[16 * digits.offset : 16 * (digits.offset + len(digits))]
    return np.frombuffer(binascii.unhexlify(data), ">u8").astype(np.uint64)


def buckets_of(ids: Sequence[str], buckets: int) -> np.ndarray:
    """Which of `buckets` files each id belongs to: by its leading 16 bits, so that the files are in id order."""
    return (id_numbers(ids) >> np.uint64(48)) * np.uint64(buckets) >> np.uint64(16)


def selected_counts(run: Run) -> SelectedCounts:
    """What the select step counted; it is done where this file is."""
    return run.read_json(SELECTED_COUNTS, SelectedCounts.__required_keys__)


def read_selected(run: Run, columns: list[str]) -> pa.Table:
    """Columns of the rows of `selected/`, in id order.

    Raises:
        RecipeError: nothing is selected yet.
        DamagedFile: these are not the rows that were selected.
    """
    if not run.exists(SELECTED_COUNTS):
        raise RecipeError(f"{run.root}: nothing is selected; run `python -m curation select` first")
    rows = run.read_tables("selected/*.parquet", columns)
    selected = selected_counts(run)["selected"]
    if rows is None or rows.num_rows != selected:
        found = 0 if rows is None else rows.num_rows
        raise run.damaged("selected/", f"has {found:,} rows, and {selected:,} images were selected")
    return rows


def read_candidates(run: Run, ids: list[str]) -> pa.Table:
    """The candidates with these ids, which ascend, in their order. Holds one bucket at a time: the ids of a late round
    are few in each of many.

    Raises:
        DamagedFile: an id is not among them.
    """
    if not ids:
        return CANDIDATE.empty_table()
    buckets = run.read_json("candidates/counts.json", ("buckets",))["buckets"]
    wanted = pa.array(ids, pa.string())
    paths = [f"candidates/{bucket:05d}.parquet" for bucket in np.unique(buckets_of(ids, buckets))]
    whole = (run.read_table(path, CANDIDATE.names) for path in paths)
    tables = [bucket.filter(pc.is_in(bucket["id"], value_set=wanted)) for bucket in whole]
    rows = pa.concat_tables([CANDIDATE.empty_table(), *tables]).combine_chunks()
    if not rows["id"].combine_chunks().equals(wanted):
        missing = sorted(set(ids) - set(rows["id"].to_pylist()))
        raise run.damaged("candidates/", f"lacks {len(missing):,} images, {missing[0]} among them")
    return rows
