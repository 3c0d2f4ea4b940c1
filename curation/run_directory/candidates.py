"""Candidates as they are stored: one row an image, in buckets that are ranges of the id."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pyarrow as pa

from curation.run_directory.run import Run
from curation.run_directory.schemas import CANDIDATE


def id_numbers(ids: Sequence[str]) -> np.ndarray:
    """uint64 (ids,): the numbers that their 16 hex digits are."""
    return np.array([int(text, 16) for text in ids], dtype=np.uint64)


def buckets_of(ids: Sequence[str], buckets: int) -> np.ndarray:
    """Which of `buckets` files each id belongs to: by its leading 16 bits, so that the files are in id order."""
    return (id_numbers(ids) >> np.uint64(48)) * np.uint64(buckets) >> np.uint64(16)


def read_candidates(run: Run, ids: list[str]) -> pa.Table:
    """The candidates with these ids, row for row in their order. Reads only the buckets that hold them.

    Raises:
        KeyError: an id that is no candidate of this run.
    """
    buckets = run.read_json("candidates/counts.json")["buckets"]
    tables = [_bucket(run, f"candidates/{bucket:05d}.parquet") for bucket in np.unique(buckets_of(ids, buckets))]
    place = {text: row for row, text in enumerate(text for table in tables for text in table["id"].to_pylist())}
    rows = [place[text] for text in ids]
    return pa.concat_tables(tables).take(rows) if ids else CANDIDATE.empty_table()


@lru_cache(maxsize=4)
def _bucket(run: Run, path: str) -> pa.Table:
    return run.read_table(path)
