"""Stored files that are not what their names say: gone, cut off, or with another file's content.

What stands here says what is wrong in the words that follow a file's name; whose file it is knows the remedy
(`Storage.damaged`).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from common.errors import UserError
from common.failures.mendable import first_line


class DamagedFile(UserError, ValueError):
    """A file whose content is not what its name says: it was changed from outside, or its disk is failing."""


class MissingFile(DamagedFile, FileNotFoundError):
    """A file that was to be read and is not there."""


def json_of(data: bytes, keys: Collection[str] = ()) -> Any:
    """What a JSON file says; with `keys`, an object that has these.

    Raises:
        ValueError: it is none; how.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is no JSON ({first_line(error)})") from error
    if keys:
        _require(keys, value if isinstance(value, dict) else ())
    return value


def table_of(data: pa.NativeFile, columns: Collection[str] | None = None, optional: Collection[str] = ()) -> pa.Table:
    """The columns of a parquet file, all of them for None, and those of `optional` that it has. Of a nested one a part can
    be named, as parquet does: `faces.list.element.box`.

    Raises:
        ValueError: it is none, or has not all of `columns`; how.
    """
    with _as_no_parquet():
        file = pq.ParquetFile(data)
        table = file.read(columns=None if columns is None else [*columns, *optional], use_threads=False)
    _require({name.partition(".")[0]: None for name in columns or ()}, table.column_names)
    return table


def groups_of(data: pa.NativeFile, columns: Collection[str]) -> Iterator[pa.Table]:
    """The columns of a parquet file, a row group at a time.

    Raises:
        ValueError: as `table_of`.
    """
    with _as_no_parquet():
        file = pq.ParquetFile(data)
    _require(columns, file.schema_arrow.names)
    for group in range(file.num_row_groups):
        with _as_no_parquet():
            rows = file.read_row_group(group, columns=[*columns], use_threads=False)
        yield rows


@contextlib.contextmanager
def _as_no_parquet() -> Iterator[None]:
    """What pyarrow says of a damaged file as a ValueError of ours."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, (DamagedFile, PermissionError)):  # it could not be read
            raise
        raise ValueError(f"is no parquet file, or damaged ({first_line(error)})") from error


def _require(names: Collection[str], there: Collection[str]) -> None:
    if lacking := [f"`{name}`" for name in names if name not in there]:
        raise ValueError(f"is another file than its name says: it has no {', '.join(lacking)}")
