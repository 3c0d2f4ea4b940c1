"""A run's tables as plain arrays, for counting: ids as uint64, words as codes into a list.

Each reader takes a `Run` and returns None (or empty arrays) where its step has not written anything yet. Only the
columns that the report counts are read, file by file, so that ten million rows fit in a few hundred megabytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.run_directory.run import Run

HOST = r"^[A-Za-z][A-Za-z0-9+.-]*://(?:[^/?#@]*@)?(?P<host>\[[^\]]*\]|[^/?#:]*)"


class LedgerError(ValueError):
    """A table does not follow docs/run-directory.md; the message names the file."""


def ids_of(table: pa.Table, where: str) -> np.ndarray:
    """uint64 (rows,) of the `id` column, 16 hex digits each.

    Raises:
        LedgerError: a null, or another length.
    """
    try:
        found = np.frombuffer(bytes.fromhex("".join(table["id"].to_pylist())), ">u8").astype(np.uint64)
    except (TypeError, ValueError) as error:
        raise LedgerError(f"{where}: an id is not 16 hex digits ({error})") from error
    if len(found) != table.num_rows:
        raise LedgerError(f"{where}: an id is not 16 hex digits")
    return found


def name_of(number: int | np.uint64) -> str:
    """The id as the tables spell it."""
    return f"{int(number):016x}"


def repeated(ids: np.ndarray) -> int:
    """How many rows are one too many."""
    return len(ids) - len(distinct(ids))


def distinct(ids: np.ndarray) -> np.ndarray:
    """Ascending, each once. (numpy's unique hashes, which takes ten times as long on what is sorted already.)"""
    ids = np.sort(ids, kind="stable")
    return ids[np.append(True, ids[1:] != ids[:-1])] if len(ids) else ids


def among(ids: np.ndarray, pool: np.ndarray) -> np.ndarray:
    """bool (ids,): which of them are in the ascending `pool`."""
    return rows_of(pool, ids) >= 0


def rows_of(ids: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """int64: for each of `wanted` the row that it has in the ascending `ids`, or -1."""
    if not len(ids):
        return np.full(len(wanted), -1)
    place = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    return np.where(ids[place] == wanted, place, -1)


class Words:
    """Strings <-> small integers; a null has no code (-1)."""

    def __init__(self, words: tuple[str, ...] = ()):
        self.words = list(words)
        self._codes = {word: code for code, word in enumerate(words)}

    def codes(self, column: pa.ChunkedArray) -> np.ndarray:
        encoded = column.combine_chunks().dictionary_encode()
        if isinstance(encoded, pa.ChunkedArray):
            encoded = encoded.combine_chunks()
        known = np.array([self._code(word) for word in encoded.dictionary.to_pylist()] + [-1], dtype=np.int32)
        return known[encoded.indices.fill_null(len(known) - 1).to_numpy(zero_copy_only=False)]

    def _code(self, word: str) -> int:
        if word not in self._codes:
            self._codes[word] = len(self.words)
            self.words.append(word)
        return self._codes[word]

    def count(self, codes: np.ndarray) -> dict[str, int]:
        """{word: how often}, most frequent first."""
        counts = np.bincount(codes[codes >= 0], minlength=len(self.words))
        pairs = sorted(zip(self.words, counts.tolist(), strict=True), key=lambda pair: (-pair[1], pair[0]))
        return {word: number for word, number in pairs if number}


def stack(parts: list[tuple[np.ndarray, ...]], by: int = 0) -> list[np.ndarray]:
    """Columns of all files, sorted by one of them; the first of equal ids stays first."""
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    order = np.argsort(columns[by], kind="stable")
    return [column[order] for column in columns]


# -- what each step wrote --------------------------------------------------------------------------------------


@dataclass
class Candidates:
    ids: np.ndarray
    in_hq: np.ndarray  # int8: 1, 0, or -1 where no HQ-4M table was given


def read_candidates(run: Run) -> Candidates | None:
    parts = []
    for path in run.glob("candidates/*.parquet"):
        table = run.read_table(path, ["id", "in_hq"])
        marks = table["in_hq"].cast(pa.int8()).fill_null(-1).to_numpy().astype(np.int8)
        parts.append((ids_of(table, path), marks))
    return Candidates(*stack(parts)) if parts else None


def read_ids(run: Run, pattern: str) -> np.ndarray | None:
    """The ids of every matching table, ascending, repetitions included."""
    parts = [ids_of(run.read_table(path, ["id"]), path) for path in run.glob(pattern)]
    return np.sort(np.concatenate(parts)) if parts else None


@dataclass
class Attempts:
    """One row an attempt, in id order, rounds ascending in each id."""

    ids: np.ndarray
    rounds: np.ndarray
    success: np.ndarray
    error: np.ndarray
    host: np.ndarray
    errors: Words
    hosts: Words

    def last(self) -> np.ndarray:
        """bool (rows,): the attempt that decides: the first success, else the last failure."""
        order = np.lexsort((np.where(self.success, -self.rounds, self.rounds), self.success, self.ids))
        grouped = self.ids[order]
        chosen = np.zeros(len(grouped), dtype=bool)
        chosen[order[np.append(grouped[1:] != grouped[:-1], True)]] = True
        return chosen


def hosts_of(urls: pa.ChunkedArray) -> pa.ChunkedArray:
    """The host of each URL, lower case; "(none)" where there is none. A regular expression: urlsplit takes 20 us."""
    found = pc.struct_field(pc.extract_regex(urls.cast(pa.string()), HOST), "host")
    return pc.if_else(pc.fill_null(pc.equal(found, ""), True), "(none)", pc.utf8_lower(found))


def read_attempts(run: Run) -> Attempts | None:
    parts, errors, hosts = [], Words(), Words()
    for path in run.glob("fetched/[0-9]*/[0-9]*.parquet"):
        table = run.read_table(path, ["id", "url", "round", "status", "error"])
        host = hosts.codes(hosts_of(table["url"]))
        success = np.array(table["status"].to_pylist(), dtype=object) == "success"
        rounds = table["round"].to_numpy().astype(np.int32)
        error = np.where(success, -1, errors.codes(table["error"].cast(pa.string()).fill_null("other")))
        parts.append((ids_of(table, path), rounds, success, error, host))
    if not parts:
        return None
    ids, rounds, success, error, host = stack(parts)
    order = np.lexsort((rounds, ids))
    return Attempts(ids[order], rounds[order], success[order], error[order], host[order], errors, hosts)


@dataclass
class Snapshot:
    """What was taken, and the counts beside it."""

    name: str
    counts: dict[str, Any]
    ids: np.ndarray
    unit: np.ndarray
    tar: np.ndarray
    offset: np.ndarray
    size: np.ndarray
    units: Words
    tars: Words
    rows: int = 0


def read_snapshot(run: Run, wanted_hash: str | None = None) -> Snapshot | None:
    """The snapshot whose hash a cut names, else the newest that is complete (its counts are there)."""
    names = [path.removesuffix(".parquet") for path in run.glob("fetched/snapshot*.parquet")]
    names = sorted((name for name in names if run.exists(f"{name}.json")), key=lambda name: (len(name), name))
    counts = {name: run.read_json(f"{name}.json") for name in names}
    if not names:
        return None
    name = next((name for name in names[::-1] if wanted_hash and counts[name].get("hash") == wanted_hash), names[-1])
    table = run.read_table(f"{name}.parquet", ["id", "tar", "unit", "offset", "size"])
    units, tars = Words(), Words()
    columns = stack(
        [
            (
                ids_of(table, f"{name}.parquet"),
                units.codes(table["unit"]),
                tars.codes(table["tar"]),
                table["offset"].to_numpy(),
                table["size"].to_numpy(),
            )
        ]
    )
    return Snapshot(name, counts[name], *columns, units, tars, table.num_rows)


@dataclass
class Images:
    """What decoding found, one row an id."""

    ids: np.ndarray
    status: np.ndarray
    width: np.ndarray
    height: np.ndarray
    sha256: np.ndarray  # the first 64 bits: enough to group by
    phash: np.ndarray
    statuses: Words


def _hex64(column: pa.ChunkedArray) -> np.ndarray:
    return np.array([int(text[:16], 16) if text else 0 for text in column.to_pylist()], dtype=np.uint64)


def read_images(run: Run, taken: np.ndarray) -> Images | None:
    """Rows of ids outside `taken` (of an older snapshot) are left out; a retried unit's doubles collapse."""
    parts, statuses = [], Words(("ok",))
    for path in run.glob("scores/images/*.parquet"):
        table = run.read_table(path, ["id", "status", "width", "height", "sha256", "phash"])
        numbers = [table[side].fill_null(0).to_numpy().astype(np.int32) for side in ("width", "height")]
        hashes = [_hex64(table["sha256"]), _hex64(table["phash"])]
        parts.append((ids_of(table, path), statuses.codes(table["status"]), *numbers, *hashes))
    if not parts:
        return None
    columns = stack(parts)
    first = np.append(True, columns[0][1:] != columns[0][:-1]) & among(columns[0], taken)
    return Images(*(column[first] for column in columns), statuses)
