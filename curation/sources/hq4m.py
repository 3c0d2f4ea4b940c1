"""The released FaceCaptionHQ-4M table: which images are in the published set, and their captions."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from curation.run_directory.run import Run
from curation.sources.columns import is_blank, texts
from curation.sources.row_groups import RowGroup, expand_paths, write_to_buckets
from curation.sources.schema_check import TEXT, require_columns
from curation.sources.urls import query

FIELD = "sources.hq4m"
COLUMNS = ("url", "image_caption", "image_short_caption")
ROWS = pa.schema({"id": pa.string(), "image_caption": pa.string(), "image_short_caption": pa.string()})


def check(patterns: list[str]) -> None:
    """Raises RecipeError where the files are missing or lack a column."""
    require_columns(expand_paths(patterns, FIELD), dict.fromkeys(COLUMNS, TEXT), FIELD)


def write_captions(group: RowGroup, run: Run, buckets: int) -> dict[str, int]:
    """Write a row group's captions to their buckets. Returns `rows`."""
    source = group.read(list(COLUMNS))
    columns = {}
    for name in COLUMNS:
        column = texts(source[name])[0]
        columns[name] = pc.if_else(pa.array(is_blank(column)), None, column)
    captions = "SELECT url_id(first_url(url)) AS id, image_caption, image_short_caption FROM source"
    rows = query(captions, source=pa.table(columns))
    rows = rows.filter(rows["id"].is_valid())
    write_to_buckets(run, rows, "hq", group.name, buckets)
    return {"rows": source.num_rows}
