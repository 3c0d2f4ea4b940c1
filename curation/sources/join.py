"""The sources' tables joined by image: candidates, one row an image, in a database.

FaceCaption comes first; of the others only the rows of its images are kept. Every source row is accounted for: it became
a face of a candidate, or it was dropped for a reason.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from common.errors import UserError
from common.progress import ProgressBar
from common.settings import RecipeError
from curation.recipe.recipe import Recipe
from curation.sources import facecaption, hq4m, laion_face
from curation.sources.database import Database
from curation.sources.files import expand_paths, row_count

IMAGES_SQL = """
    CREATE TABLE images AS
    SELECT id, count(*) AS faces, min(twin) <> max(twin) AS clash, max(side) AS side, max(area) AS area
    FROM faces WHERE dropped IS NULL GROUP BY id
"""
CLASH_SQL = """
    SELECT arg_min(url, twin) AS one, arg_max(url, twin) AS other
    FROM faces WHERE dropped IS NULL AND id = (SELECT min(id) FROM images WHERE clash)
"""
# one row an image: of several, the least
SIZES_SQL = """
    CREATE VIEW sizes AS
    WITH twice AS (
        SELECT id FROM laion GROUP BY id HAVING count(*) > 1
    )
    FROM laion ANTI JOIN twice USING (id)
    UNION ALL BY NAME
    SELECT id, unnest(min({'sample_id': sample_id, 'width': width, 'height': height, 'similarity': similarity,
                           'license': license, 'nsfw': nsfw}))
    FROM laion SEMI JOIN twice USING (id) GROUP BY id
"""
# an image of one row, which most are, costs no grouping. Exact duplicates of a face are one face
MERGED_SQL = """
    CREATE VIEW merged AS
    WITH several AS (
        SELECT *, row_number() OVER (PARTITION BY id, face.box, face.caption ORDER BY place) AS copy
        FROM faces WHERE dropped IS NULL AND id IN (SELECT id FROM images WHERE faces > 1)
    )
    SELECT id, url, laion_caption, [face] AS faces
    FROM faces WHERE dropped IS NULL AND id IN (SELECT id FROM images WHERE faces = 1)
    UNION ALL BY NAME
    SELECT id, arg_min(url, place) AS url, arg_min(laion_caption, place) AS laion_caption,
           list(face ORDER BY place) FILTER (copy = 1) AS faces
    FROM several GROUP BY id
"""
CANDIDATES_SQL = """
    SELECT id, url, faces, laion_caption, image_caption, image_short_caption, {in_hq} AS in_hq, width, height, nsfw, license,
           similarity, sample_id, rank
    FROM merged JOIN ranks USING (id) LEFT JOIN sizes USING (id) LEFT JOIN published USING (id) ORDER BY id
"""


class IdsClash(UserError, RuntimeError):
    """Two URLs have one id."""


def check_sources(recipe: Recipe) -> None:
    """Everything about the sources that can be wrong is said here, before any work.

    Raises:
        RecipeError: names the field, the file and the remedy.
    """
    sources, count = recipe.sources, recipe.select.count
    rows = row_count(facecaption.check(sources.facecaption))
    if count is not None and count > rows:
        raise RecipeError(
            f"select: count {count:,} cannot be reached: the sources hold {rows:,} rows, each a face at most. Lower the "
            "count, or add sources"
        )
    if sources.laion_face:
        laion_face.check(sources.laion_face)
    elif recipe.select.key.startswith("image_"):
        raise RecipeError(
            f"select.key: {recipe.select.key} needs the image sizes that only LAION-Face has, and "
            "sources.laion_face is not given. Use box_min_side or box_area, or give sources.laion_face"
        )
    if sources.hq4m:
        hq4m.check(sources.hq4m)


def read_faces(database: Database, recipe: Recipe) -> dict[str, Any]:
    """Make the tables `faces`, of all rows, and `images`, of those that can be used. Returns `rows`, `dropped` {reason: rows}
    and `candidates`.

    Raises:
        IdsClash: two URLs share an id.
        RecipeError: no row can be used.
    """
    paths = expand_paths(recipe.sources.facecaption, facecaption.FIELD)
    rows = row_count(paths)
    with ProgressBar("select", rows, "rows of FaceCaption") as progress:
        database.fill(facecaption.FACES_SQL, facecaption.read(paths), facecaption.READ, progress)
    database.do(IMAGES_SQL)
    dropped = {
        row["dropped"]: row["rows"]
        for row in database.rows(
            "SELECT dropped, count(*) AS rows FROM faces WHERE dropped IS NOT NULL GROUP BY dropped ORDER BY dropped"
        )
    }
    found = database.one("SELECT count(*) AS candidates, coalesce(bool_or(clash), false) AS clash FROM images")
    if not found["candidates"]:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in dropped.items()) or "there is none"
        raise RecipeError(
            f"sources.facecaption: no row of {', '.join(recipe.sources.facecaption)} can be used, of "
            f"{rows:,}: {reasons}. docs/curation.md says what the columns hold"
        )
    if found["clash"]:
        # a 64-bit id may collide (odds 6e-6 at 15M URLs): then the run stops rather than mix two images
        raise IdsClash(
            "two URLs share an id: {one} and {other}; drop one from the source".format(**database.one(CLASH_SQL))
        )
    return {"rows": rows, "dropped": dropped, "candidates": found["candidates"]}


def read_others(database: Database, recipe: Recipe) -> Counter[str]:
    """Make the tables `laion` and `published` of what LAION-Face and HQ-4M say of `images`, and the view of candidates.
    Returns how many rows were read, and how many images they know."""
    sources, counts = recipe.sources, Counter[str]()
    database.do(laion_face.TABLE)
    database.do(hq4m.TABLE)
    if sources.laion_face:
        paths = laion_face.paths_of(sources.laion_face)
        allowed = laion_face.allowed_ids(sources.laion_face.ids, paths)
        counts["laion_rows"] = rows = row_count(paths)
        with ProgressBar("select", rows, "rows of LAION-Face") as progress:
            database.fill(laion_face.MATCHES_SQL, laion_face.read(paths, allowed), laion_face.READ, progress)
    if sources.hq4m:
        paths = expand_paths(sources.hq4m, hq4m.FIELD)
        counts["hq_rows"] = rows = row_count(paths)
        with ProgressBar("select", rows, "rows of HQ-4M") as progress:
            database.fill(hq4m.PUBLISHED_SQL, hq4m.read(paths), hq4m.READ, progress)
    database.do(SIZES_SQL)
    database.do(MERGED_SQL)
    return counts
