"""The released FaceCaptionHQ-4M table: which images are in the published set, and their captions."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from curation.sources.columns import is_blank, texts
from curation.sources.files import expand_paths, rows_of
from curation.sources.schema_check import TEXT, require_columns

FIELD = "sources.hq4m"
COLUMNS = ("url", "image_caption", "image_short_caption")
READ = pa.schema(dict.fromkeys(COLUMNS, pa.large_string()))
TABLE = "CREATE TABLE published (id UBIGINT, image_caption VARCHAR, image_short_caption VARCHAR)"
# of what FaceCaption does not have nothing is kept
PUBLISHED_SQL = """
    INSERT INTO published
    SELECT id_in(url) AS id, min(image_caption), min(image_short_caption)
    FROM source WHERE id IN (SELECT id FROM images) GROUP BY id
"""


def check(patterns: list[str]) -> None:
    """Raises RecipeError where the files are missing or lack a column."""
    require_columns(expand_paths(patterns, FIELD), dict.fromkeys(COLUMNS, TEXT), FIELD)


def read(paths: list[str]) -> Iterator[pa.Table]:
    """The rows as PUBLISHED_SQL wants them: captions that say nothing are null."""
    for rows in rows_of(paths, list(COLUMNS)):
        columns = {}
        for name in COLUMNS:
            column = texts(rows.table[name])[0]
            columns[name] = pc.if_else(pa.array(is_blank(column)), None, column)
        yield pa.table(columns)
