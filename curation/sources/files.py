"""The files of a source: which they are, how many rows they say they have, and these rows, some at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from common.failures.mendable import first_line
from common.paths import files_at, open_file
from common.settings import RecipeError
from curation.sources.columns import find_column

ROWS = 100_000  # read at a time
LARGE = 1 << 28  # bytes of a row group that is not held whole
BUFFER = 1 << 23  # bytes of each of its columns that are


@dataclass(frozen=True)
class Rows:
    """Rows of a file that follow one another. `file_number`: the file's place among its source's files; `start`: of the
    first row, in the file."""

    table: pa.Table
    file_number: int
    start: int

    def places(self) -> pa.Array:
        """Of each row in the source, in its order: what ties are broken by."""
        first = (self.file_number << 40) + self.start
        return pa.array(range(first, first + self.table.num_rows), pa.int64())


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


def row_count(paths: list[str]) -> int:
    """What the files' metadata say."""
    rows = 0
    for path in paths:
        with open_file(path) as file:
            rows += pq.ParquetFile(file).metadata.num_rows
    return rows


def rows_of(paths: list[str], wanted: list[str]) -> Iterator[Rows]:
    """All rows of these files, about ROWS at a time whatever their row groups are: the wanted columns that a file has,
    under the names that are asked for.

    Raises:
        RecipeError: pages of a file are damaged. (Whether it has the columns was checked before.)
    """
    for number, path in enumerate(paths):
        start, waiting, count = 0, [], 0
        for batch in _batches(path, wanted):
            waiting.append(batch)
            count += batch.num_rows
            if count >= ROWS:
                yield Rows(pa.Table.from_batches(waiting), number, start)
                start, waiting, count = start + count, [], 0
        if waiting:
            yield Rows(pa.Table.from_batches(waiting), number, start)


def _batches(path: str, wanted: list[str]) -> Iterator[pa.RecordBatch]:
    with open_file(path) as file:
        metadata = pq.read_metadata(file)
        largest = max((metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)), default=0)
        options: dict[str, Any] = {"buffer_size": BUFFER, "pre_buffer": False} if largest > LARGE else {}
        source = pq.ParquetFile(file, metadata=metadata, **options)
        have = {name: find_column(source.schema_arrow.names, name) for name in wanted}
        found = {column: name for name, column in have.items() if column}
        for group in range(metadata.num_row_groups):
            try:
                for batch in source.iter_batches(ROWS, row_groups=[group], columns=list(found), use_threads=False):
                    yield batch.rename_columns([found[column] for column in batch.schema.names])
            except (pa.ArrowException, OSError) as error:
                if getattr(error, "errno", None):  # the disk's or the network's, not the file's
                    raise
                raise RecipeError(
                    f"{path}: row group {group} is damaged ({first_line(error)}): download or copy the file again"
                ) from error
