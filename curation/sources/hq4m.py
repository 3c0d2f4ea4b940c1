"""The released FaceCaptionHQ-4M table: which images are in the published set, and their captions."""

from __future__ import annotations

import pyarrow as pa

from curation.run_directory.run import Run
from curation.sources.row_groups import RowGroup, expand_paths, require_columns, write_to_buckets
from curation.sources.urls import database

FIELD = "sources.hq4m"
ROWS = pa.schema({"id": pa.string(), "image_caption": pa.string(), "image_short_caption": pa.string()})


def check(patterns: list[str]) -> None:
    """Raises RecipeError where the files are missing or lack a column."""
    columns = {"url", "image_caption", "face_caption", "image_short_caption"}
    require_columns(expand_paths(patterns, FIELD), columns, FIELD)


def write_captions(group: RowGroup, run: Run, buckets: int) -> dict[str, int]:
    """Write a row group's captions to their buckets. Returns `rows`."""
    source = group.read().select(["url", "image_caption", "image_short_caption"])
    connection = database()
    connection.register("source", source)
    # captions of the released table are plain strings or lists of one: both are in circulation
    rows = connection.execute(
        "SELECT url_id(split_part(url, ', ', 1)) AS id, "
        "trim(CAST(image_caption AS VARCHAR), '[]''\"') AS image_caption, "
        "trim(CAST(image_short_caption AS VARCHAR), '[]''\"') AS image_short_caption FROM source"
    ).to_arrow_table()
    rows = rows.filter(rows["id"].is_valid())
    write_to_buckets(run, rows, "hq", group.name, buckets)
    return {"rows": source.num_rows}
