"""Candidates as they are stored: one row an image, in buckets that are ranges of the id."""

from __future__ import annotations

import binascii
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from common.settings import RecipeError
from curation.run_directory.run import Run
from curation.run_directory.schemas import CANDIDATE, SELECTED, SelectedCounts

SELECTED_COUNTS = "selected/counts.json"


def id_numbers(ids: Sequence[str] | np.ndarray | pa.ChunkedArray) -> np.ndarray:
    """uint64 (ids,): the numbers that their 16 hex digits are. Of an Arrow column without a Python object an id; what
    holds the numbers is taken as it is."""
    if isinstance(ids, np.ndarray):
        return ids
    if not isinstance(ids, pa.ChunkedArray):
        return np.array([int(text, 16) for text in ids], dtype=np.uint64)
    if pa.types.is_uint64(ids.type):
        return ids.to_numpy()
    numbers = [_numbers_of(chunk) for chunk in ids.chunks if len(chunk)]
    return np.concatenate([np.zeros(0, np.uint64), *numbers])


def _numbers_of(ids: pa.Array) -> np.ndarray:
    digits = ids.cast(pa.binary()).cast(pa.binary(16))
    data = memoryview(digits.buffers()[1])[16 * digits.offset : 16 * (digits.offset + len(digits))]
    return np.frombuffer(binascii.unhexlify(data), ">u8").astype(np.uint64)


def id_texts(numbers: np.ndarray) -> pa.Array:
    """The ids that these numbers are, as tables hold them."""
    digits = binascii.hexlify(numbers.astype(">u8").tobytes())
    return (
        pa.Array.from_buffers(pa.binary(16), len(numbers), [None, pa.py_buffer(digits)])
        .cast(pa.binary())
        .cast(pa.string())
    )


def with_numbers(rows: pa.Table) -> pa.Table:
    """`rows`, whose ids are numbers now: of ten million the texts are 200 MB."""
    return rows.set_column(rows.column_names.index("id"), "id", pa.array(id_numbers(rows["id"])))


def with_texts(rows: pa.Table) -> pa.Table:
    """`rows`, whose ids are texts again, as they are stored."""
    return rows.set_column(rows.column_names.index("id"), "id", id_texts(rows["id"].to_numpy()))


def buckets_of(ids: Sequence[str], buckets: int) -> np.ndarray:
    """Which of `buckets` files each id belongs to: by its leading 16 bits, so that the files are in id order."""
    return (id_numbers(ids) >> np.uint64(48)) * np.uint64(buckets) >> np.uint64(16)


def selected_counts(run: Run) -> SelectedCounts:
    """What the select step counted; it is done where this file is."""
    return run.read_json(SELECTED_COUNTS, SelectedCounts.__required_keys__)


def what_the_sort_did(counts: SelectedCounts) -> str:
    """How many candidates the resolution sort leaves out; where it is none, what it takes for it to decide anything."""
    pool, wanted = counts["candidates"], counts["wanted"]
    if away := pool - counts["selected"]:
        return f"{away:,} candidate{'s' * (away > 1)} selected away"
    if wanted == pool or counts["rank_over"] != "available":
        return "nothing selected away"
    return f"nothing selected away, unless more than {wanted / pool:.0%} of the links are alive"


def selected_ids(run: Run) -> np.ndarray:
    """uint64 (images,), ascending: the ids of the rows of `selected/`, as numbers: of ten million the texts are a gigabyte.

    Raises:
        RecipeError: nothing is selected yet.
        DamagedFile: these are not the rows that were selected.
    """
    if not run.exists(SELECTED_COUNTS):
        raise RecipeError(f"{run.root}: nothing is selected; run `python -m curation select` first")
    parts = [id_numbers(part["id"]) for part in read_selected(run, SELECTED.names)]
    ids, selected = np.concatenate([np.zeros(0, np.uint64), *parts]), selected_counts(run)["selected"]
    if len(ids) != selected:
        raise run.damaged("selected/", f"has {len(ids):,} rows, and {selected:,} images were selected")
    if not (ids[1:] > ids[:-1]).all():
        raise run.damaged("selected/", "is not in id order")
    return ids


def read_selected(run: Run, columns: list[str]) -> Iterator[pa.Table]:
    """Columns of the rows of `selected/`, in id order, a file at a time."""
    # not `read_each`, which has many of these large files on their way
    return (run.read_table(path, columns) for path in run.glob("selected/*.parquet"))


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
