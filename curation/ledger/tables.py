"""A run's tables in a DuckDB database in memory, so that they are counted in SQL.

Only the columns that are counted are kept, and an id as the number that its 16 hex digits are.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from curation.run_directory.candidates import with_numbers

SCHEMA = r"""
    CREATE MACRO id_number(digits) AS
        CASE WHEN regexp_full_match(digits, '[0-9a-fA-F]{16}') THEN ('0x' || digits)::UBIGINT END;
    CREATE MACRO authority_of(url) AS
        split_part(split_part(split_part(split_part(url, '://', 2), '/', 1), '?', 1), '#', 1);
    CREATE MACRO host_of(authority) AS coalesce(nullif(lower(regexp_extract(
        authority, '^(?:[^@]*@)?(\[[^\]]*\]|[^:]*)', 1)), ''), '(none)');

    CREATE TABLE candidates (id UBIGINT NOT NULL, in_hq BOOLEAN);
    CREATE TABLE selected (id UBIGINT NOT NULL);
    CREATE TABLE attempts (id UBIGINT NOT NULL, round INT, success BOOLEAN, error VARCHAR, authority VARCHAR);
    CREATE TABLE rounds (round INT, attempts BIGINT, success BIGINT);
    -- what came of an image in all rounds: the first round that fetched it, else the error of its last failure
    CREATE TABLE outcomes (id UBIGINT, came_in INT, error VARCHAR, first_error VARCHAR, authority VARCHAR);
    CREATE TABLE hosts (host VARCHAR, images BIGINT, fetched BIGINT);
    -- the snapshot: where each image lies
    CREATE TABLE taken (id UBIGINT NOT NULL, unit VARCHAR, tar VARCHAR, start BIGINT, size BIGINT);
    CREATE TABLE images (id UBIGINT NOT NULL, status VARCHAR, width INT, height INT, sha256 UBIGINT, phash UBIGINT);
    CREATE TABLE verdicts (id UBIGINT NOT NULL, verdict VARCHAR, reason VARCHAR, audited BOOLEAN, caption_face INT);
    CREATE TABLE annotations (id UBIGINT NOT NULL, without_identity BOOLEAN);
    -- without an identity, as pack wrote them down
    CREATE TABLE listed (id UBIGINT NOT NULL);
    CREATE TABLE no_identity (id UBIGINT);
    -- by the cut, but for those in no_identity
    CREATE TABLE kept (id UBIGINT);
    -- of another cut of the same images: why it lost each, null where it keeps it; and its own `listed`
    CREATE TABLE other_verdicts (id UBIGINT NOT NULL, lost_to VARCHAR);
    CREATE TABLE other_listed (id UBIGINT NOT NULL);
    CREATE TABLE planned (id UBIGINT NOT NULL, shard INT);
    CREATE TABLE packed (id UBIGINT NOT NULL);
"""


MEMORY = "1GB"  # of the database; what does not fit is on the disk meanwhile


INSERTED = 100_000  # rows at a time
AHEAD = 32  # files


class LedgerError(ValueError):
    """A table does not follow docs/run-directory.md; the message names the file."""


class Tables:
    """The tables of `SCHEMA`. One that the run has no file of yet is empty, and not among `present`."""

    def __init__(self) -> None:
        # no network: a run in a bucket is read through its own file system, never by an extension of DuckDB
        config = {
            "autoinstall_known_extensions": False,
            "temp_directory": tempfile.gettempdir(),
            "memory_limit": MEMORY,
        }
        self._connection = duckdb.connect(config=config)
        # compressed, as on a disk: of a million images a third less
        self._connection.execute("SET enable_progress_bar = false")  # DuckDB's own would be in what the report prints
        self._connection.execute("ATTACH ':memory:' AS run (COMPRESS); USE run")
        self._connection.execute(SCHEMA)
        self.present: set[str] = set()
        # the last id that was inserted; None: they did not ascend, so that one may be there twice
        self._last: dict[str, int | None] = {}

    def insert(
        self, table: str, values: str, parts: Iterable[tuple[str, pa.Table]],
        prepared: Callable[[pa.Table], pa.Table] = lambda rows: rows,
    ) -> None:  # fmt: skip
        """Append the rows of some files, each with its path: `values` are SQL expressions of them, one for each column of
        the table, in which `id` is a number. Many small files are one insertion, `prepared` together.

        Raises:
            LedgerError: an id is null, or not 16 hex digits; the message begins with the file's path.
        """
        waiting: list[pa.Table] = []
        count = 0
        for part in chain(_ahead(_numbered(part, path) for path, part in parts), [None]):
            if part is not None:
                waiting.append(part)
                count += part.num_rows
            if waiting and (part is None or count >= INSERTED):
                rows = prepared(pa.concat_tables(waiting, promote_options="permissive").unify_dictionaries())
                self._run(f"INSERT INTO {table} SELECT {values} FROM part", (), {"part": rows})
                self._note_order(table, rows["id"].to_numpy())
                self.present.add(table)
                waiting, count = [], 0

    def _note_order(self, table: str, ids: np.ndarray) -> None:
        last = self._last.get(table, -1)
        if last is not None and len(ids):
            ascends = int(ids[0]) > last and bool((ids[1:] > ids[:-1]).all())
            self._last[table] = int(ids[-1]) if ascends else None

    def insert_ids(self, table: str, ids: list[str], source: str) -> None:
        """Append rows that are an id alone; raises as `insert` does."""
        self.insert(table, "id", [(source, pa.table({"id": pa.array(ids, pa.string())}))])

    def _run(self, sql: str, parameters: Sequence[Any], tables: dict[str, pa.Table]) -> duckdb.DuckDBPyConnection:
        for name, table in tables.items():  # replaces the one of that name before
            self._connection.register(name, table)
        return self._connection.execute(sql, parameters or None)

    def execute(self, sql: str) -> None:
        self._connection.execute(sql)

    def rows(self, sql: str, *parameters: Any, **tables: pa.Table) -> list[tuple[Any, ...]]:
        """The rows of a query, which may name `tables`; `parameters` are its question marks."""
        return self._run(sql, parameters, tables).fetchall()

    def arrays(self, sql: str, **tables: pa.Table) -> list[np.ndarray]:
        """The columns of a query, which may name `tables`."""
        return list(self._run(sql, (), tables).fetchnumpy().values())

    def number(self, sql: str, *parameters: Any) -> int:
        """The one number that a query gives."""
        return int(self.rows(sql, *parameters)[0][0])

    def counts(self, column: str, source: str) -> dict[str, int]:
        """{value of the column: rows}, most frequent first, nulls left out. `source`: the SQL after FROM."""
        groups = f"SELECT {column} AS value, count(*) FROM {source} GROUP BY 1 ORDER BY 2 DESC, 1"
        return {value: number for value, number in self.rows(groups) if value is not None}

    def size(self, source: str) -> int:
        """How many rows there are. `source`: the SQL after FROM."""
        return self.number(f"SELECT count(*) FROM {source}")

    def distinct(self, table: str) -> int:
        """How many ids a table has. Of one that was filled in the order of its ids, as most are, nothing has to be compared."""
        if self._last.get(table) is not None:
            return self.size(table)
        return self.number(f"SELECT count(DISTINCT id) FROM {table}")

    def shared(self, table: str, other: str) -> int:
        """How many rows of a table have an id that the other has too; each may be a query in parentheses."""
        return self.number(f"SELECT count(*) FROM {table} SEMI JOIN {other} AS other USING (id)")

    def ids(self, source: str) -> np.ndarray:
        """uint64 (ids,), ascending, each once. `source`: the SQL after FROM."""
        return self.arrays(f"SELECT DISTINCT id FROM {source} ORDER BY id")[0]

    def look_up(self, ids: np.ndarray, values: str, table: str) -> list[np.ndarray]:
        """SQL expressions of the row that each of `ids` has in a table, in their order; nulls where it has none."""
        wanted = pa.table({"wanted_id": ids, "place": np.arange(len(ids))})
        join = f"wanted LEFT JOIN {table} ON id = wanted_id"
        return self.arrays(f"SELECT DISTINCT ON (place) place, {values} FROM {join} ORDER BY place", wanted=wanted)[1:]

    def contains(self, table: str, ids: np.ndarray) -> np.ndarray:
        """bool (ids,): which of them the table has."""
        return self.look_up(ids, "id IS NOT NULL", table)[0]


def _ahead(parts: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The parts, of which the next few are read by a thread while this one inserts."""
    parts = iter(parts)
    with ThreadPoolExecutor(1) as reader:
        waiting = deque(reader.submit(next, parts, None) for _ in range(AHEAD))
        while (part := waiting.popleft().result()) is not None:
            waiting.append(reader.submit(next, parts, None))
            yield part


def _numbered(part: pa.Table, source: str) -> pa.Table:
    if part["id"].null_count == 0:
        # the rows' ids alone are looked at here: what else is wrong with a table DuckDB says
        with contextlib.suppress(ValueError, pa.ArrowException):
            return with_numbers(part)
    raise LedgerError(f"{source}: an id is not 16 hex digits")


def name_of(number: int | np.uint64) -> str:
    """The id as the run's tables spell it."""
    return f"{int(number):016x}"
