"""A table of labels, what a person says of each photo: read, and checked before anything is scored.

One row a photo, as in tests/labels/sample-photos.csv. `file` names it (or `id`, or `sha256`); each filter says which other
columns it reads and which words they may hold (`labels` in its class); `keep` says whether the photo belongs in the set,
`doubtful` that another person might say otherwise. Photos of one `motif` are never in both halves; `half` names it. An empty
field is no answer. CSV, JSON lines or parquet.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
import math
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from common.errors import UserError
from common.paths import open_place
from curation.filters.registry import filter_classes

NAMES = ("file", "id", "sha256")  # a photo of a folder, an image of a run, a photo of the sample
ALONGSIDE = ("package", "note", "motif")  # for people, and to split by
SPLIT = {"half": ("choose", "report"), "doubtful": ("1", "0")}  # words of columns that alone are no label
KINDS = ".csv, .jsonl or .parquet"


class LabelError(UserError, ValueError):
    """A table of labels that cannot be used as it is; the message says where and what to change."""


def label_columns() -> dict[str, Sequence[str] | None]:
    """The columns that hold labels, with the words that each may hold; None: a whole number."""
    columns: dict[str, Sequence[str] | None] = {"keep": ("1", "0")}
    for item in filter_classes():
        columns |= item.labels
    return columns


def read_labels(path: str | os.PathLike[str], name: str) -> list[dict[str, str]]:
    """The rows of a table, every known column in each of them, "" where it says nothing; `where`: of messages.

    `name`: the column of NAMES that says which photo a row is about.

    Raises:
        LabelError: no such table, not readable as what its ending says, empty; a column or a word that no filter
            knows; a photo without a name, or with two rows.
    """
    known = label_columns()
    labels = [
        {**dict.fromkeys((*NAMES, *ALONGSIDE, *known, *SPLIT), ""), **row, "where": where}
        for where, row in _rows(str(path))
        if any(row.values())
    ]
    if not labels:
        raise LabelError(f"{path}: holds no label. Give it a row a photo, with the columns {', '.join((name, *known))}")
    lines: dict[str, str] = {}
    for label in labels:
        _check(label, name, known | SPLIT)
        if before := lines.get(label[name]):
            raise LabelError(f"{label['where']}: {name}: {label[name]!r} has a row before ({before}): keep one of them")
        lines[label[name]] = label["where"].rsplit(": ", 1)[-1]
    return labels


def nearest(word: str, known: Collection[str]) -> str:
    """How a sentence about a wrong word ends: "; did you mean X?", or "."."""
    close = difflib.get_close_matches(word, known, 1)
    return f"; did you mean {close[0]!r}?" if close else "."


def _check(label: dict[str, str], name: str, known: dict[str, Sequence[str] | None]) -> None:
    where = label["where"]
    if not label[name] and name == "sha256" and (label["file"] or label["id"]):
        kind, of = ("file", "--photos FOLDER (PHOTOS=FOLDER)") if label["file"] else ("id", "the RUN (RUN=...)")
        raise LabelError(f"{where}: the column `{kind}` names the photo: say whose photos these are, too, with {of}")
    if not label[name]:
        raise LabelError(f"{where}: {name}: is empty: say there which photo the row is about")
    for column, words in known.items():
        value = label[column]
        if value and words is None and not (value.isascii() and value.isdigit()):
            raise LabelError(f"{where}: {column}: {value!r} is no whole number. Leave it empty where you cannot say")
        if value and words is not None and value not in words:
            raise LabelError(f"{where}: {column}: {value!r} is no label{nearest(value, words)} It is one of "
                             f"{', '.join(words)}, or empty where you cannot say")  # fmt: skip


def _check_columns(path: str, columns: Sequence[str]) -> None:
    known = [*NAMES, *ALONGSIDE, *SPLIT, *label_columns()]
    for column in columns:
        if column not in known:
            raise LabelError(
                f"{path}: {column!r} is no column of labels{nearest(column, known)} Known are {', '.join(known)} "
                "(a comma between them): rename it, or take it out"
            )
        if columns.count(column) > 1:
            raise LabelError(f"{path}: has two columns {column!r}: take one of them out")
    if not set(columns) & set(label_columns()):
        raise LabelError(f"{path}: has no column of labels: add one or more of {', '.join(label_columns())}")


# -- the three kinds of file -----------------------------------------------------------------------------------------


def _rows(path: str) -> Iterator[tuple[str, dict[str, str]]]:
    """(where, row) of each row; the path letter for letter, of any filesystem."""
    kind = {".csv": _of_csv, ".jsonl": _of_json_lines, ".parquet": _of_parquet}.get(os.path.splitext(path)[1].lower())
    if kind is None:
        raise LabelError(f"{path}: a table of labels ends in {KINDS}: save it as one of these")
    fs, place = open_place(path)
    try:
        data = fs.cat_file(place)
    except FileNotFoundError as error:
        raise LabelError(f"{path}: no such table of labels: correct --labels") from error
    try:
        for where, row in kind(path, data):
            yield f"{path}: {where}", {column: _text(value) for column, value in row.items()}
    except UnicodeDecodeError as error:
        raise LabelError(f"{path}: is not UTF-8 (byte {error.start:,}): save it as UTF-8") from error
    except (csv.Error, json.JSONDecodeError, RecursionError, pa.ArrowException) as error:
        raise LabelError(f"{path}: cannot be read as what its name ends in: {str(error).splitlines()[0]}") from error


def _of_csv(path: str, data: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    # strict: an unclosed quote would swallow the rest of the table
    reader = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
    header = [column.strip() for column in next(reader, [])]
    if header:
        _check_columns(path, header)
    for fields in reader:
        if len(fields) > len(header):
            raise LabelError(f"{path}: line {reader.line_num}: {len(fields)} fields under {len(header)} columns: put "
                             "quotes around a field with a comma in it")  # fmt: skip
        yield f"line {reader.line_num}", dict(zip(header, fields, strict=False))


def _of_json_lines(path: str, data: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(data.decode("utf-8-sig").split("\n"), start=1):
        if not line.strip():
            continue
        row = json.loads(line)
        if not isinstance(row, dict):
            raise LabelError(f'{path}: line {number}: is no row: write {{"file": ..., "colour": ...}}')
        _check_columns(path, list(row))
        yield f"line {number}", row


def _of_parquet(path: str, data: bytes) -> Iterable[tuple[str, dict[str, Any]]]:
    table = pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)
    _check_columns(path, table.column_names)
    return ((f"row {number}", row) for number, row in enumerate(table.to_pylist(), start=1))


def _text(value: Any) -> str:
    """A field as CSV would have it: nothing for null, 1 for true and for 1.0, which is what pandas makes of 1."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool) or (isinstance(value, float) and value.is_integer()):
        return str(int(value))
    return str(value).strip()
