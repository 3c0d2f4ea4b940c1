"""Tables of a source as row groups: find the files, read a group, work on all of them with Ray, sort rows into buckets.

A row group is small enough for one task, and the row groups are the same in every run. A bucket is a range of ids.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray

from common.failures.mendable import first_line
from common.paths import files_at, open_file
from common.progress import ProgressBar
from common.settings import RecipeError
from curation.run_directory.candidates import buckets_of
from curation.run_directory.run import Run
from curation.sources.columns import find_column

WORK = "work/sources"  # of a run: rows between two passes, removed when the selection is written


@dataclass(frozen=True)
class RowGroup:
    """One row group of a parquet file. `file_number`: the file's place among its source's files."""

    path: str
    file_number: int
    group: int

    @property
    def name(self) -> str:
        """Of the files that are made of it; in the order of the source's rows."""
        return f"{self.file_number:04d}-{self.group:05d}"

    def read(self, wanted: list[str]) -> pa.Table:
        """The wanted columns that the file has, under the names that are asked for.

        Raises:
            RecipeError: the group's pages are damaged. (Whether the file has the columns was checked before.)
        """
        with open_file(self.path) as file:
            source = pq.ParquetFile(file)
            have = {name: find_column(source.schema_arrow.names, name) for name in wanted}
            try:
                table = source.read_row_group(self.group, [name for name in have.values() if name], use_threads=False)
            except (pa.ArrowException, OSError) as error:
                if getattr(error, "errno", None):  # the disk's or the network's, not the file's
                    raise
                raise RecipeError(
                    f"{self.path}: row group {self.group} is damaged ({first_line(error)}): download or copy the file again"
                ) from error
        return pa.table({name: table[found] for name, found in have.items() if found})


def expand_paths(patterns: list[str], field: str) -> list[str]:
    """Files that paths, patterns and URLs name. A path that exists as it stands is itself, whatever is in it.

    Raises:
        RecipeError: a pattern that matches nothing, with the field that holds it.
    """
    paths: list[str] = []
    for pattern in patterns:
        hits = files_at(pattern)
        if not hits:
            raise RecipeError(f"{field}: nothing is at {pattern}. Correct the path, or fetch the files first")
        paths += hits
    return paths


def row_groups_of(paths: list[str]) -> list[RowGroup]:
    groups = []
    for number, path in enumerate(paths):
        with open_file(path) as file:
            count = pq.ParquetFile(file).num_row_groups
        groups += [RowGroup(path, number, group) for group in range(count)]
    return groups


def row_count(paths: list[str]) -> int:
    rows = 0
    for path in paths:
        with open_file(path) as file:
            rows += pq.ParquetFile(file).metadata.num_rows
    return rows


def map_with_ray(
    unit: str, rows: list[dict[str, Any]], function: Callable[[Mapping[str, Any]], dict[str, int]]
) -> list[dict[str, int]]:
    """`function(row)`, which returns counts, for all rows, side by side on Ray. `unit`: what a row is, for progress."""
    if not rows:
        return []
    results = []

    def one(row: dict[str, Any]) -> dict[str, Any]:
        return {"result": function(row)}

    with ProgressBar("select", len(rows), unit) as progress:
        for row in ray.data.from_items(rows, override_num_blocks=len(rows)).map(one).iter_rows():
            results.append(row["result"])
            progress.advance(1)
    return results


def map_row_groups(
    source: str, paths: list[str], function: Callable[[RowGroup], dict[str, int]]
) -> list[dict[str, int]]:
    """`function` of every row group of a source's files."""
    rows = [asdict(group) for group in row_groups_of(paths)]
    return map_with_ray(f"{source} pieces", rows, lambda row: function(RowGroup(**row)))


def write_to_buckets(run: Run, table: pa.Table, kind: str, name: str, buckets: int) -> None:
    """Write rows to WORK/KIND/BUCKET/NAME.parquet, by the leading bits of their id: bucket order is id order."""
    if not table.num_rows:
        return
    bucket = buckets_of(table["id"].to_pylist(), buckets)
    for index in np.unique(bucket):
        run.write_table(f"{WORK}/{kind}/{index:05d}/{name}.parquet", table.filter(pa.array(bucket == index)))


def read_bucket(run: Run, kind: str, bucket: int) -> pa.Table | None:
    """All rows of a kind whose id falls into a bucket; None where there is none."""
    return run.read_tables(f"{WORK}/{kind}/{bucket:05d}/*.parquet")
