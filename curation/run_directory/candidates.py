"""Candidates as they are stored: one row an image, in buckets that are ranges of the id."""

from __future__ import annotations

from functools import lru_cache

import pyarrow as pa

from curation.run_directory.run import Run
from curation.run_directory.schemas import CANDIDATE


def bucket_of(candidate_id: str, buckets: int) -> int:
    """Which of `buckets` files an id belongs to: its leading 16 bits, so that the files are in id order."""
    return int(candidate_id[:4], 16) * buckets >> 16


def read_candidates(run: Run, ids: list[str]) -> pa.Table:
    """The candidates with these ids, row for row in their order. Reads only the buckets that hold them.

    Raises:
        KeyError: an id that is no candidate of this run.
    """
    buckets = run.read_json("candidates/counts.json")["buckets"]
    tables = [
        _bucket(run, f"candidates/{bucket:05d}.parquet") for bucket in sorted({bucket_of(i, buckets) for i in ids})
    ]
    place = {text: row for row, text in enumerate(text for table in tables for text in table["id"].to_pylist())}
    rows = [place[text] for text in ids]
    return pa.concat_tables(tables).take(rows) if ids else CANDIDATE.empty_table()


@lru_cache(maxsize=4)
def _bucket(run: Run, path: str) -> pa.Table:
    return run.read_table(path)
