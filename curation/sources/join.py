"""The sources' tables joined by image: candidates, one row an image.

Three passes, each a Ray Data map over the row groups of one source, write their rows into buckets (ranges of the id)
rather than shuffle them; then each bucket is joined with DuckDB. FaceCaption's ids (8 bytes each) are broadcast, so
that of LAION-Face only the matches are ever written. Every source row is accounted for: it became a face of a
candidate, or it was dropped for a reason.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import pyarrow.compute as pc
import ray

from common.errors import UserError
from common.settings import RecipeError
from curation.recipe.recipe import Recipe
from curation.run_directory.run import Run
from curation.run_directory.schemas import UNRANKED_CANDIDATE
from curation.sources import facecaption, hq4m, laion_face
from curation.sources.row_groups import WORK, expand_paths, map_row_groups, map_with_ray, read_bucket, row_count
from curation.sources.urls import query

CLASH_SQL = """
    SELECT id, min(normal_url(url)) AS one, max(normal_url(url)) AS other FROM faces
    GROUP BY id HAVING one <> other LIMIT 1
"""
MERGE_SQL = """
    WITH one_face AS (  -- exact duplicates of a face are one face
        SELECT id, url, caption, laion_caption, source_id, box, place,
               row_number() OVER (PARTITION BY id, box, caption ORDER BY place) AS copy
        FROM faces
    ), images AS (
        SELECT id, arg_min(url, place) AS url, arg_min(laion_caption, place) AS laion_caption,
               list(struct_pack(box := box, caption := caption, source_id := source_id) ORDER BY place)
                   FILTER (copy = 1) AS faces
        FROM one_face GROUP BY id
    ), sizes AS (
        SELECT * EXCLUDE (copy) FROM (
            SELECT *, row_number() OVER (PARTITION BY id ORDER BY sample_id, url) AS copy FROM laion) WHERE copy = 1
    ), published AS (
        SELECT id, min(image_caption) AS image_caption, min(image_short_caption) AS image_short_caption
        FROM hq GROUP BY id
    )
    SELECT images.id, images.url, images.faces, images.laion_caption, published.image_caption,
           published.image_short_caption, CASE WHEN {has_hq} THEN published.id IS NOT NULL END AS in_hq,
           sizes.width, sizes.height, sizes.nsfw, sizes.license, sizes.similarity, sizes.sample_id
    FROM images LEFT JOIN sizes USING (id) LEFT JOIN published USING (id) ORDER BY images.id
"""


class IdsClash(UserError, RuntimeError):
    """Two URLs have one id."""


def check_sources(recipe: Recipe) -> None:
    """Everything about the sources that can be wrong is said here, before any work.

    Raises:
        RecipeError: names the field, the file and the remedy.
    """
    sources = recipe.sources
    facecaption.check(sources.facecaption)
    if sources.laion_face:
        laion_face.check(sources.laion_face)
    elif recipe.select.key.startswith("image_"):
        raise RecipeError(
            f"select.key: {recipe.select.key} needs the image sizes that only LAION-Face has, and "
            "sources.laion_face is not given. Use box_min_side or box_area, or give sources.laion_face"
        )
    if sources.hq4m:
        hq4m.check(sources.hq4m)


def build_candidates(run: Run, recipe: Recipe) -> dict[str, Any]:
    """Write `work/sources/merged/BUCKET.parquet` (candidates without ranks) and return the counts.

    Raises:
        IdsClash: two URLs share an id.
    """
    sources = recipe.sources
    paths = expand_paths(sources.facecaption, facecaption.FIELD)
    rows = row_count(paths)
    buckets = max(1, min(512, rows // 50_000 + (rows > 100)))
    total: Counter[str] = Counter(rows=0, merged=0, candidates=0)
    for counts in map_row_groups("FaceCaption", paths, partial(facecaption.write_faces, run=run, buckets=buckets)):
        total.update(counts)
    if sources.laion_face:
        paths = laion_face.paths_of(sources.laion_face)
        known = ray.put(facecaption.known_ids(run))
        allowed = laion_face.allowed_ids(sources.laion_face.ids, paths)
        write = partial(laion_face.write_matches, run=run, buckets=buckets, known=known, allowed=allowed)
        for counts in map_row_groups("LAION-Face", paths, write):
            total["laion_rows"] += counts["rows"]
    if sources.hq4m:
        paths = expand_paths(sources.hq4m, hq4m.FIELD)
        for counts in map_row_groups("HQ-4M", paths, partial(hq4m.write_captions, run=run, buckets=buckets)):
            total["hq_rows"] += counts["rows"]
    items = [{"bucket": bucket} for bucket in range(buckets)]
    has_hq = sources.hq4m is not None
    for counts in map_with_ray("merged pieces", items, lambda item: merge_bucket(item["bucket"], run, has_hq)):
        total.update(counts)
    dropped = {key.removeprefix("dropped."): total.pop(key) for key in sorted(total) if key.startswith("dropped.")}
    return {**total, "buckets": buckets, "dropped": {reason: count for reason, count in dropped.items() if count}}


def merge_bucket(bucket: int, run: Run, has_hq: bool) -> dict[str, int]:
    """Join the rows of one bucket and write its candidates. Returns the counts."""
    faces = read_bucket(run, "faces", bucket)
    if faces is None:
        return {"candidates": 0}
    # a 64-bit id may collide (odds 6e-6 at 15M URLs): then the run stops rather than mix two images
    clash = query(CLASH_SQL, faces=faces).to_pylist()
    if clash:
        raise IdsClash("two URLs share the id {id}: {one} and {other}; drop one from the source".format(**clash[0]))
    tables = {"faces": faces}
    for kind, schema in (("laion", laion_face.ROWS), ("hq", hq4m.ROWS)):
        rows = read_bucket(run, kind, bucket)
        tables[kind] = rows if rows is not None else schema.empty_table()
    merged = query(MERGE_SQL.format(has_hq=str(has_hq).lower()), **tables).cast(UNRANKED_CANDIDATE)
    run.write_table(f"{WORK}/merged/{bucket:05d}.parquet", merged)
    kept = pc.sum(pc.list_value_length(merged["faces"])).as_py()
    return {
        "candidates": merged.num_rows,
        "merged": kept,
        "dropped.duplicate_row": faces.num_rows - kept,
        "laion_matched": merged.num_rows - merged["sample_id"].null_count,
        "hq_matched": pc.sum(merged["in_hq"]).as_py() or 0,
    }
