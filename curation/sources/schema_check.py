"""Whether a source's files have the columns that are read, in a type that can be read: said before any work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from common.paths import open_file
from common.settings import RecipeError
from curation.sources.boxes import ACCEPTED, takes_box
from curation.sources.columns import find_column, takes_number, takes_text, takes_word


@dataclass(frozen=True)
class ColumnKind:
    """What a column holds. `accepted`: for the message; `takes`: whether a type can be read as it."""

    accepted: str
    takes: Callable[[pa.DataType], bool]


TEXT = ColumnKind("text, or a list of texts", takes_text)
WORD = ColumnKind("text or a number", takes_word)
NUMBER = ColumnKind("a number", takes_number)
BOX = ColumnKind(ACCEPTED, takes_box)


def require_columns(
    paths: list[str], wanted: Mapping[str, ColumnKind], field: str, optional: Mapping[str, ColumnKind] | None = None
) -> None:
    """Raises RecipeError for a file that is not readable, lacks a column, or has one of a type that cannot be read."""
    for path in paths:
        schema = _schema_of(path, field)
        names = {name: find_column(schema.names, name) for name in [*wanted, *(optional or {})]}
        if lacking := [name for name in wanted if names[name] is None]:
            raise RecipeError(
                f"{field}: {path} lacks the column{'s' * (len(lacking) > 1)} {', '.join(sorted(lacking))} (has "
                f"{', '.join(sorted(schema.names))})"
            )
        for name, kind in {**wanted, **(optional or {})}.items():
            if names[name] is None:
                continue
            if schema.names.count(names[name]) > 1:
                raise RecipeError(f"{field}: {path} has several columns {names[name]}: leave one of them")
            found = schema.field(names[name]).type
            if not kind.takes(found):
                raise RecipeError(
                    f"{field}: {path}: the column {names[name]} is {found}, which cannot be read; accepted: {kind.accepted}"
                )


def _schema_of(path: str, field: str) -> pa.Schema:
    try:
        with open_file(path) as file:
            return pq.ParquetFile(file).schema_arrow
    except IsADirectoryError as error:
        raise RecipeError(f"{field}: {path} is a folder: name the files in it, e.g. {path}/*.parquet") from error
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise RecipeError(
            f"{field}: {path} is not a readable parquet file: {error}. Other tables have to be converted, e.g. by "
            "duckdb.sql(\"COPY (FROM 'faces.csv') TO 'faces.parquet'\")"
        ) from error
