"""FaceCaption-15M, LAION-Face and the FaceCaptionHQ-4M table -> candidates, one row an image.

Three small passes, each a Ray Data map over pieces of the source files, whose results meet in files rather
than in a shuffle: a pass writes its rows into buckets (ranges of the id), and the last pass merges each bucket
with DuckDB. FaceCaption's ids (8 bytes each) are broadcast, so that of LAION-Face only the matches are ever
written. Every source row is accounted for: it became a face of a candidate, or it was dropped for a reason.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from functools import partial
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray

from common.progress import ProgressBar
from common.settings import RecipeError
from curation.recipe.recipe import Recipe
from curation.run_directory.candidates import bucket_of
from curation.run_directory.run import Run
from curation.run_directory.schemas import UNRANKED_CANDIDATE
from curation.sources.urls import database

STAGE = "work/sources"


class IdsClash(RuntimeError):
    """Two URLs have one id."""


def expand_paths(patterns: list[str], field: str) -> list[str]:
    """Files that paths, globs and URLs name.

    Raises:
        RecipeError: a pattern that matches nothing, with the field that holds it.
    """
    found: list[str] = []
    for pattern in patterns:
        filesystem, path = fsspec.core.url_to_fs(pattern)
        hits = sorted(filesystem.glob(path)) if re.search(r"[*?\[]", path) else [path] * filesystem.exists(path)
        if not hits:
            raise RecipeError(f"{field}: nothing is at {pattern}. Correct the path, or fetch the files first")
        found += [filesystem.unstrip_protocol(hit) for hit in hits]
    return found


def check_sources(recipe: Recipe) -> None:
    """Everything about the sources that can be wrong is said here, before any work."""
    sources = recipe.sources
    facecaption = expand_paths(sources.facecaption, "sources.facecaption")
    _require_columns(facecaption, {"_id", "caption", "url", "laion_caption", "box"}, "sources.facecaption")
    if sources.laion_face:
        parts = expand_paths(sources.laion_face.parts, "sources.laion_face.parts")
        _require_columns(parts, {"SAMPLE_ID", "URL"}, "sources.laion_face.parts")
        if sources.laion_face.ids:
            expand_paths([sources.laion_face.ids], "sources.laion_face.ids")
            for part in parts:
                part_number(part)
    elif recipe.select.key.startswith("image_"):
        raise RecipeError(
            f"select.key: {recipe.select.key} needs the image sizes that only LAION-Face has, and "
            "sources.laion_face is not given. Use box_min_side or box_area, or give sources.laion_face"
        )
    if sources.hq4m:
        paths = expand_paths(sources.hq4m, "sources.hq4m")
        _require_columns(paths, {"url", "image_caption", "face_caption", "image_short_caption"}, "sources.hq4m")


def _require_columns(paths: list[str], wanted: set[str], field: str) -> None:
    for path in paths:
        try:
            with fsspec.open(path, "rb") as file:
                have = set(pq.ParquetFile(file).schema_arrow.names)
        except (pa.ArrowInvalid, OSError) as error:
            raise RecipeError(f"{field}: {path} is not a readable parquet file: {error}") from error
        if lacking := wanted - have:
            raise RecipeError(
                f"{field}: {path} lacks the column{'s' * (len(lacking) > 1)} {', '.join(sorted(lacking))} (has "
                f"{', '.join(sorted(have))})"
            )


# -- the passes ------------------------------------------------------------------------------------------------


def _pieces(paths: list[str]) -> list[dict[str, Any]]:
    """One piece a row group: small enough for a task, and the same pieces in every run."""
    pieces = []
    for number, path in enumerate(paths):
        with fsspec.open(path, "rb") as file:
            groups = pq.ParquetFile(file).num_row_groups
        pieces += [{"file": path, "number": number, "group": group} for group in range(groups)]
    return pieces


def _read_piece(piece: dict[str, Any]) -> pa.Table:
    with fsspec.open(piece["file"], "rb") as file:
        return pq.ParquetFile(file).read_row_group(piece["group"], use_threads=False)


def _map(what: str, pieces: list[dict[str, Any]], function: Any) -> list[dict[str, Any]]:
    """Run `function(piece) -> dict of counts` over all pieces as a Ray Data stage."""
    if not pieces:
        return []
    found = []

    def one(row: dict[str, Any]) -> dict[str, Any]:
        return {"result": function(row)}

    with ProgressBar("select", len(pieces), f"{what} pieces") as progress:
        for row in ray.data.from_items(pieces, override_num_blocks=len(pieces)).map(one).iter_rows():
            found.append(row["result"])
            progress.advance(1)
    return found


def _bucket_rows(run: Run, table: pa.Table, kind: str, name: str, buckets: int) -> None:
    """Write rows to their bucket: the leading bits of the id, so that bucket order is id order."""
    if not table.num_rows:
        return
    bucket = np.array([bucket_of(text, buckets) for text in table["id"].to_pylist()], dtype=np.int64)
    for index in np.unique(bucket):
        run.write_table(f"{STAGE}/{kind}/{index:05d}/{name}.parquet", table.filter(pa.array(bucket == index)))


FACES_SQL = """
    WITH rows AS (
        SELECT row_number() OVER () AS row, CAST(_id AS VARCHAR) AS source_id, {caption} AS caption,
               {laion_caption} AS laion_caption, split_part(url, ', ', 1) AS url, CAST({box} AS VARCHAR) AS box_text
        FROM source
    ), parsed AS (
        SELECT *, url_id(url) AS id, TRY_CAST(TRY_CAST(box_text AS JSON) AS DOUBLE[]) AS box FROM rows
    )
    SELECT row, source_id, caption, laion_caption, url, id,
           CASE WHEN len(box) = 4 THEN list_transform(box, lambda x: TRY_CAST(round(x) AS INTEGER)) END AS box,
           CASE WHEN url IS NULL OR url = '' OR url = 'UNKNOWN' THEN 'url_unknown'
                WHEN id IS NULL OR lower(url[:4]) <> 'http' THEN 'url_malformed'
                WHEN box IS NULL OR len(box) <> 4
                     OR list_contains([coalesce(isfinite(x) AND abs(x) < 1e6, false) FOR x IN box], false)
                     THEN 'box_malformed'
                WHEN box[1] >= box[3] OR box[2] >= box[4] OR box[3] <= 0 OR box[4] <= 0 THEN 'box_empty'
                WHEN caption IS NULL OR trim(caption) = '' THEN 'caption_missing'
           END AS dropped
    FROM parsed ORDER BY row
"""


def _facecaption_piece(piece: dict[str, Any], run: Run, buckets: int) -> dict[str, int]:
    source = _read_piece(piece).select(["_id", "caption", "url", "laion_caption", "box"])
    connection = database()
    connection.register("source", source)
    # v2 wraps each text in a list of one; tables derived from it hold plain strings
    first = {
        name: f"{name}[1]" if pa.types.is_list(source.schema.field(name).type) else name
        for name in ("caption", "laion_caption", "box")
    }
    rows = connection.execute(FACES_SQL.format(**first)).to_arrow_table()
    good = rows.filter(rows["dropped"].is_null()).drop_columns(["dropped"])
    name = f"{piece['number']:04d}-{piece['group']:05d}"
    good = good.append_column("place", pa.array([f"{name}-{row:08d}" for row in good["row"].to_pylist()], pa.string()))
    _bucket_rows(run, good.drop_columns(["row"]), "faces", name, buckets)
    counts = Counter(reason for reason in rows["dropped"].to_pylist() if reason)
    return {"rows": rows.num_rows, **{f"dropped.{reason}": count for reason, count in sorted(counts.items())}}


def _laion_piece(
    piece: dict[str, Any], run: Run, buckets: int, known: Any, allowed: dict[int, Any] | None
) -> dict[str, int]:
    """The rows of one LAION row group whose URL FaceCaption has."""
    source = _read_piece(piece)
    have = {name.upper(): name for name in source.column_names}
    optional = {"height": "INTEGER", "width": "INTEGER", "similarity": "FLOAT", "license": "VARCHAR", "nsfw": "VARCHAR"}
    fields = ", ".join(
        f"TRY_CAST({have[name.upper()]} AS {kind}) AS {name}" if name.upper() in have else f"NULL::{kind} AS {name}"
        for name, kind in optional.items()
    )
    connection = database()
    connection.register("source", source)
    rows = connection.execute(
        f"SELECT url_id(URL) AS id, URL AS url, TRY_CAST(SAMPLE_ID AS BIGINT) AS sample_id, {fields} FROM source"
    ).to_arrow_table()
    keep = np.asarray(rows["id"].is_valid())
    if allowed is not None:
        ids = rows["sample_id"].to_numpy(zero_copy_only=False)
        keep &= np.isin(ids, ray.get(allowed[piece["number"]]))
    rows = rows.filter(pa.array(keep))
    mine = np.array([int(text, 16) for text in rows["id"].to_pylist()], dtype=np.uint64)
    ids = ray.get(known)
    place = np.searchsorted(ids, mine)
    match = ids[np.minimum(place, len(ids) - 1)] == mine if len(ids) else np.zeros(len(mine), bool)
    name = f"{piece['number']:04d}-{piece['group']:05d}"
    _bucket_rows(run, rows.filter(pa.array(match)), "laion", name, buckets)
    return {"rows": source.num_rows, "matched": int(match.sum())}


def _hq_piece(piece: dict[str, Any], run: Run, buckets: int) -> dict[str, int]:
    source = _read_piece(piece).select(["url", "image_caption", "image_short_caption"])
    connection = database()
    connection.register("source", source)
    # captions of the released table are plain strings or lists of one: both are in circulation
    rows = connection.execute(
        "SELECT url_id(split_part(url, ', ', 1)) AS id, "
        "trim(CAST(image_caption AS VARCHAR), '[]''\"') AS image_caption, "
        "trim(CAST(image_short_caption AS VARCHAR), '[]''\"') AS image_short_caption FROM source"
    ).to_arrow_table()
    rows = rows.filter(rows["id"].is_valid())
    _bucket_rows(run, rows, "hq", f"{piece['number']:04d}-{piece['group']:05d}", buckets)
    return {"rows": source.num_rows}


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
LAION_COLUMNS = {
    "id": pa.string(),
    "url": pa.string(),
    "sample_id": pa.int64(),
    "height": pa.int32(),
    "width": pa.int32(),
    "similarity": pa.float32(),
    "license": pa.string(),
    "nsfw": pa.string(),
}
HQ_COLUMNS = {"id": pa.string(), "image_caption": pa.string(), "image_short_caption": pa.string()}


def _merge_bucket(bucket: int, run: Run, has_hq: bool) -> dict[str, int]:
    faces = run.read_tables(f"{STAGE}/faces/{bucket:05d}/*.parquet")
    if faces is None:
        return {"candidates": 0}
    connection = database()
    connection.register("faces", faces)
    for kind, columns in (("laion", LAION_COLUMNS), ("hq", HQ_COLUMNS)):
        rows = run.read_tables(f"{STAGE}/{kind}/{bucket:05d}/*.parquet")
        connection.register(kind, rows if rows is not None else pa.schema(columns).empty_table())
    # a 64-bit id may collide (odds 6e-6 at 15M URLs): then the run stops rather than mix two images
    clash = connection.execute(
        "SELECT id, min(normal_url(url)), max(normal_url(url)) FROM faces GROUP BY id "
        "HAVING min(normal_url(url)) <> max(normal_url(url)) LIMIT 1"
    ).fetchone()
    if clash:
        raise IdsClash(f"two URLs share the id {clash[0]}: {clash[1]} and {clash[2]}; drop one from the source")
    merged = connection.execute(MERGE_SQL.format(has_hq=str(has_hq).lower())).to_arrow_table().cast(UNRANKED_CANDIDATE)
    run.write_table(f"{STAGE}/merged/{bucket:05d}.parquet", merged)
    kept = sum(len(faces) for faces in merged["faces"].to_pylist())
    return {
        "candidates": merged.num_rows,
        "merged": kept,
        "dropped.duplicate_row": faces.num_rows - kept,
        "laion_matched": merged.num_rows - merged["sample_id"].null_count,
        "hq_matched": sum(1 for flag in merged["in_hq"].to_pylist() if flag),
    }


def build_candidates(run: Run, recipe: Recipe) -> dict[str, Any]:
    """Write `work/sources/merged/BUCKET.parquet` (candidates without ranks) and return the counts."""
    sources = recipe.sources
    pieces = _pieces(expand_paths(sources.facecaption, "sources.facecaption"))
    rows = sum(_row_count(piece["file"]) for piece in pieces if piece["group"] == 0)
    buckets = max(1, min(512, rows // 50_000 + (rows > 100)))
    total: Counter[str] = Counter()
    for counts in _map("FaceCaption", pieces, partial(_facecaption_piece, run=run, buckets=buckets)):
        total.update(counts)
    if sources.laion_face:
        parts = expand_paths(sources.laion_face.parts, "sources.laion_face.parts")
        known = ray.put(_known_ids(run))
        allowed = _allowed_ids(sources.laion_face.ids, parts)
        for counts in _map(
            "LAION-Face", _pieces(parts), partial(_laion_piece, run=run, buckets=buckets, known=known, allowed=allowed)
        ):
            total.update({f"laion_{key}": value for key, value in counts.items() if key == "rows"})
    if sources.hq4m:
        paths = expand_paths(sources.hq4m, "sources.hq4m")
        for counts in _map("HQ-4M", _pieces(paths), partial(_hq_piece, run=run, buckets=buckets)):
            total.update({f"hq_{key}": value for key, value in counts.items()})
    items = [{"bucket": bucket} for bucket in range(buckets)]
    has_hq = sources.hq4m is not None
    for counts in _map("merged", items, lambda item: _merge_bucket(item["bucket"], run, has_hq)):
        total.update(counts)
    dropped = {key.removeprefix("dropped."): total.pop(key) for key in sorted(total) if key.startswith("dropped.")}
    return {**total, "buckets": buckets, "dropped": {reason: count for reason, count in dropped.items() if count}}


def _row_count(path: str) -> int:
    with fsspec.open(path, "rb") as file:
        return pq.ParquetFile(file).metadata.num_rows


def _known_ids(run: Run) -> np.ndarray:
    """uint64, sorted: the ids that FaceCaption has. 8 bytes each, so 15M fit a broadcast of 120 MB."""
    ids = [
        np.array([int(text, 16) for text in run.read_table(path, ["id"])["id"].to_pylist()], dtype=np.uint64)
        for path in run.glob(f"{STAGE}/faces/*/*.parquet")
    ]
    return np.unique(np.concatenate(ids)) if ids else np.zeros(0, np.uint64)


def part_number(path: str) -> int:
    """Which of LAION's 32 parts a file is, by its name: part-00017-..., laion_face_part_00017.parquet.

    Raises:
        RecipeError: the name does not say.
    """
    found = re.search(r"part[-_]?(\d+)", path.rsplit("/", 1)[-1])
    if not found:
        raise RecipeError(
            f"sources.laion_face.ids is a list by part, and the name of {path} does not say which part it is: name it "
            "part-000NN.parquet"
        )
    return int(found[1])


def _allowed_ids(path: str | None, parts: list[str]) -> dict[int, Any] | None:
    """SAMPLE_IDs of LAION-Face for each file of `parts`, in the object store; None where there is no such list."""
    if path is None:
        return None
    import torch

    with fsspec.open(path, "rb") as file:
        lists = torch.load(io.BytesIO(file.read()), weights_only=True)
    numbers = [part_number(part) for part in parts]
    if max(numbers) >= len(lists):
        raise RecipeError(
            f"sources.laion_face.ids: {path} lists {len(lists)} parts, the recipe names part {max(numbers)}"
        )
    return {
        place: ray.put(np.unique(np.asarray(list(lists[number]), dtype=np.int64)))
        for place, number in enumerate(numbers)
    }
