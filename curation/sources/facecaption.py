"""FaceCaption-15M: one row a face, with its box, its caption and the URL of the image."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa

from curation.run_directory.candidates import id_numbers
from curation.run_directory.run import Run
from curation.sources.boxes import boxes
from curation.sources.columns import is_blank, texts
from curation.sources.row_groups import WORK, RowGroup, expand_paths, write_to_buckets
from curation.sources.schema_check import BOX, TEXT, WORD, require_columns
from curation.sources.urls import query

FIELD = "sources.facecaption"
COLUMNS = {"_id": WORD, "caption": TEXT, "url": TEXT, "laion_caption": TEXT, "box": BOX}
FACES_SQL = """
    WITH rows AS (
        SELECT row, _id AS source_id, caption, laion_caption, first_url(url) AS url, box, unreadable, blank
        FROM source
    ), parsed AS (
        SELECT *, url_id(url) AS id FROM rows
    )
    SELECT row, source_id, caption, laion_caption, url, id,
           CASE WHEN len(box) = 4 THEN list_transform(box, lambda x: TRY_CAST(round(x) AS INTEGER)) END AS box,
           CASE WHEN unreadable THEN 'not_utf8'
                WHEN url IS NULL OR url = '' OR url = 'UNKNOWN' THEN 'url_unknown'
                WHEN id IS NULL OR lower(url[:4]) <> 'http' THEN 'url_malformed'
                WHEN box IS NULL OR len(box) <> 4
                     OR list_contains([coalesce(isfinite(x) AND abs(x) < 1e6, false) FOR x IN box], false)
                     THEN 'box_malformed'
                WHEN box[1] >= box[3] OR box[2] >= box[4] OR box[3] <= 0 OR box[4] <= 0 THEN 'box_empty'
                WHEN blank THEN 'caption_missing'
           END AS dropped
    FROM parsed ORDER BY row
"""


def check(patterns: list[str]) -> None:
    """Raises RecipeError where the files are missing or lack a column."""
    require_columns(expand_paths(patterns, FIELD), COLUMNS, FIELD)


def write_faces(group: RowGroup, run: Run, buckets: int) -> dict[str, int]:
    """Write a row group's usable faces to their buckets. Returns `rows`, and `dropped.REASON` for the others."""
    source = group.read(list(COLUMNS))
    columns, unreadable = {"row": pa.array(range(source.num_rows), pa.int64())}, np.zeros(source.num_rows, bool)
    for name in COLUMNS.keys() - {"box"}:
        columns[name], broken = texts(source[name])
        unreadable |= broken
    columns |= {"box": boxes(source["box"]), "unreadable": pa.array(unreadable)}
    columns["blank"] = pa.array(is_blank(columns["caption"]))
    rows = query(FACES_SQL, source=pa.table(columns))
    good = rows.filter(rows["dropped"].is_null()).drop_columns(["dropped"])
    places = [f"{group.name}-{row:08d}" for row in good["row"].to_pylist()]
    good = good.append_column("place", pa.array(places, pa.string()))
    write_to_buckets(run, good.drop_columns(["row"]), "faces", group.name, buckets)
    dropped = Counter(reason for reason in rows["dropped"].to_pylist() if reason)
    return {"rows": rows.num_rows, **{f"dropped.{reason}": count for reason, count in sorted(dropped.items())}}


def known_ids(run: Run) -> np.ndarray:
    """uint64, sorted: the ids that FaceCaption has. 8 bytes each, so 15M fit a broadcast of 120 MB."""
    ids = [id_numbers(run.read_table(path, ["id"])["id"]) for path in run.glob(f"{WORK}/faces/*/*.parquet")]
    return np.unique(np.concatenate(ids)) if ids else np.zeros(0, np.uint64)
