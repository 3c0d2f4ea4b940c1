"""The database of the select step: DuckDB in memory, which puts on the run's disk what does not fit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import duckdb
import pyarrow as pa

from common.failures.mendable import first_line
from common.progress import ProgressBar
from common.settings import RecipeError
from curation.sources.urls import MACROS


class Database:
    """Rows go in as Arrow tables, one after the other, and come out in the same way. For a `with` statement.

    Args:
        spill: a folder for what does not fit.
        memory_gb: what DuckDB may hold of the machine's memory; beside it the process has some 1 GB.
    """

    def __init__(self, spill: Path, memory_gb: float):
        self.memory_gb = memory_gb
        self._connection = duckdb.connect(
            config={
                "temp_directory": str(spill),
                "memory_limit": f"{memory_gb * 1e9:.0f}B",
                # no order but that which a query asks for
                "preserve_insertion_order": "false",
                # a source in a bucket is read through its own file system, never by an extension of DuckDB
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
            }
        )
        self._connection.execute("SET enable_progress_bar = false")  # it would write into the command's output
        self._connection.execute(MACROS)

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def do(self, sql: str) -> None:
        """Statements that answer nothing."""
        with self._memory_told():
            self._connection.execute(sql)

    def one(self, sql: str) -> dict[str, object]:
        """The only row of an answer."""
        (row,) = self.rows(sql)
        return row

    def rows(self, sql: str) -> list[dict[str, object]]:
        """The rows of an answer that is short."""
        with self._memory_told():
            return self._connection.sql(sql).to_arrow_table().to_pylist()

    def stream(self, sql: str, rows: int = 20_000) -> Iterator[pa.RecordBatch]:
        """An answer of any length, about so many rows at a time."""
        with self._memory_told():
            yield from self._connection.sql(sql).to_arrow_reader(rows)

    def fill(self, sql: str, source: Iterable[pa.Table], schema: pa.Schema, of: ProgressBar) -> None:
        """Run a statement that reads all rows of `source`, which go through it a table at a time.

        Raises:
            Whatever `source` raises.
        """
        failures: list[BaseException] = []

        def batches() -> Iterator[pa.RecordBatch]:
            try:
                for table in source:
                    yield from table.to_batches()
                    of.advance(table.num_rows)
            except BaseException as error:
                failures.append(error)  # DuckDB would tell of it in its own words
                raise

        self._connection.register("source", pa.RecordBatchReader.from_batches(schema, batches()))
        try:
            self.do(sql)
        except Exception:
            if failures:
                raise failures[0] from None
            raise
        finally:
            self._connection.unregister("source")

    @contextlib.contextmanager
    def _memory_told(self) -> Iterator[None]:
        try:
            yield
        except duckdb.OutOfMemoryException as error:
            raise RecipeError(
                f"select.memory_gb: {self.memory_gb:g} GB do not suffice, or the disk is full ({first_line(error)}): give "
                "it more, or make room; nothing is selected yet"
            ) from error
