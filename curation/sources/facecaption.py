"""FaceCaption-15M: one row a face, with its box, its caption and the URL of the image."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from curation.sources.boxes import BOX as BOX_TYPE
from curation.sources.boxes import boxes
from curation.sources.columns import is_blank, texts
from curation.sources.files import expand_paths, rows_of
from curation.sources.schema_check import BOX, TEXT, WORD, require_columns

FIELD = "sources.facecaption"
COLUMNS = {"_id": WORD, "caption": TEXT, "url": TEXT, "laion_caption": TEXT, "box": BOX}
READ = pa.schema(
    {
        "place": pa.int64(),
        **dict.fromkeys(("_id", "caption", "url", "laion_caption"), pa.large_string()),
        "box": BOX_TYPE,
        "unreadable": pa.bool_(),
        "blank": pa.bool_(),
    }
)
# `twin`: the next 64 bits of the hash, which tell whether two URLs of one id are one. `side`, `area`: of the box
FACES_SQL = """
    CREATE TABLE faces AS
    WITH looked_at AS (
        SELECT *, is_plain(url) AS plain FROM source
    ), named AS (
        SELECT * REPLACE (CASE WHEN plain THEN url ELSE first_url(url) END AS url) FROM looked_at
    ), hashed AS (
        SELECT *, sha1(CASE WHEN plain THEN url ELSE normal_url(url) END) AS hash,
               CASE WHEN len(box) = 4 THEN list_transform(box, lambda x: TRY_CAST(round(x) AS INTEGER)) END AS whole
        FROM named
    )
    SELECT id_of(hash) AS id, ('0x' || hash[17:32])::UBIGINT AS twin, place, url, laion_caption,
           {'box': whole, 'caption': caption, 'source_id': _id} AS face,
           least(whole[3] - whole[1], whole[4] - whole[2]) AS side,
           (whole[3] - whole[1])::BIGINT * (whole[4] - whole[2]) AS area,
           CASE WHEN unreadable THEN 'not_utf8'
                WHEN url IS NULL OR url = '' OR url = 'UNKNOWN' THEN 'url_unknown'
                WHEN hash IS NULL OR lower(url[:4]) <> 'http' THEN 'url_malformed'
                WHEN box IS NULL OR len(box) <> 4
                     OR NOT coalesce(abs(box[1]) < 1e6 AND abs(box[2]) < 1e6 AND abs(box[3]) < 1e6 AND abs(box[4]) < 1e6, false)
                     THEN 'box_malformed'
                WHEN box[1] >= box[3] OR box[2] >= box[4] OR box[3] <= 0 OR box[4] <= 0 THEN 'box_empty'
                WHEN blank THEN 'caption_missing'
           END AS dropped
    FROM hashed
"""


def check(patterns: list[str]) -> list[str]:
    """The files. Raises RecipeError where they are missing or lack a column."""
    paths = expand_paths(patterns, FIELD)
    require_columns(paths, COLUMNS, FIELD)
    return paths


def read(paths: list[str]) -> Iterator[pa.Table]:
    """The rows as FACES_SQL wants them."""
    for rows in rows_of(paths, list(COLUMNS)):
        source = rows.table
        columns, unreadable = {"place": rows.places()}, np.zeros(source.num_rows, bool)
        for name in COLUMNS.keys() - {"box"}:
            columns[name], broken = texts(source[name])
            unreadable |= broken
        columns |= {"box": boxes(source["box"]), "unreadable": pa.array(unreadable)}
        columns["blank"] = pa.array(is_blank(columns["caption"]))
        yield pa.table(columns).select(READ.names)
