"""LAION-Face: sizes, licence and other facts of the images that FaceCaption has. Of its rows only the matches are written."""

from __future__ import annotations

import io
import re

import numpy as np
import pyarrow as pa
import ray

from common.failures.mendable import first_line
from common.paths import open_file
from common.settings import RecipeError
from curation.recipe.recipe import LaionFace
from curation.run_directory.candidates import id_numbers
from curation.run_directory.run import Run
from curation.sources.columns import numbers, texts, whole_numbers
from curation.sources.row_groups import RowGroup, expand_paths, write_to_buckets
from curation.sources.schema_check import NUMBER, TEXT, WORD, require_columns
from curation.sources.urls import query

FIELD = "sources.laion_face"
COLUMNS = {"SAMPLE_ID": NUMBER, "URL": TEXT}
OPTIONAL_COLUMNS = {"height": NUMBER, "width": NUMBER, "similarity": NUMBER, "license": WORD, "nsfw": WORD}
OPTIONAL = {"height": "INTEGER", "width": "INTEGER", "similarity": "FLOAT", "license": "VARCHAR", "nsfw": "VARCHAR"}
ROWS = pa.schema(
    {
        "id": pa.string(),
        "url": pa.string(),
        "sample_id": pa.int64(),
        "height": pa.int32(),
        "width": pa.int32(),
        "similarity": pa.float32(),
        "license": pa.string(),
        "nsfw": pa.string(),
    }
)


def paths_of(source: LaionFace) -> list[str]:
    return expand_paths(source.parts, f"{FIELD}.parts")


def check(source: LaionFace) -> None:
    """Raises RecipeError where files are missing, lack a column, or do not say which part they are."""
    paths = paths_of(source)
    require_columns(paths, COLUMNS, f"{FIELD}.parts", OPTIONAL_COLUMNS)
    if source.ids:
        expand_paths([source.ids], f"{FIELD}.ids")
        for path in paths:
            part_number(path)


def write_matches(
    group: RowGroup, run: Run, buckets: int, known: ray.ObjectRef, allowed: dict[int, ray.ObjectRef] | None
) -> dict[str, int]:
    """Write the rows of a row group whose URL FaceCaption has to their buckets. Returns `rows` and `matched`.

    Args:
        known: FaceCaption's ids, sorted (uint64).
        allowed: by file, the SAMPLE_IDs that are LAION-Face (int64); None where all are.
    """
    source = group.read([*COLUMNS, *OPTIONAL_COLUMNS])
    columns = {"SAMPLE_ID": whole_numbers(source["SAMPLE_ID"]), "URL": texts(source["URL"])[0]}
    for name in OPTIONAL_COLUMNS.keys() & set(source.column_names):
        columns[name] = texts(source[name])[0] if OPTIONAL_COLUMNS[name] is WORD else numbers(source[name])
    fields = ", ".join(
        f"TRY_CAST({name} AS {kind}) AS {name}" if name in columns else f"NULL::{kind} AS {name}"
        for name, kind in OPTIONAL.items()
    )
    images = f"SELECT url_id(first_url(URL)) AS id, first_url(URL) AS url, SAMPLE_ID AS sample_id, {fields} FROM source"
    rows = query(images, source=pa.table(columns))
    keep = np.asarray(rows["id"].is_valid())
    if allowed is not None:
        # filled, since numpy has no null but that of float64, which rounds large numbers
        sample_ids = rows["sample_id"].fill_null(0).to_numpy()
        keep &= np.isin(sample_ids, ray.get(allowed[group.file_number])) & np.asarray(rows["sample_id"].is_valid())
    rows = rows.filter(pa.array(keep))
    ids = id_numbers(rows["id"])
    sorted_ids = ray.get(known)
    # np.isin would sort all of FaceCaption's ids again for each row group
    place = np.minimum(np.searchsorted(sorted_ids, ids), max(len(sorted_ids) - 1, 0))
    match = sorted_ids[place] == ids if len(sorted_ids) else np.zeros(len(ids), bool)
    write_to_buckets(run, rows.filter(pa.array(match)), "laion", group.name, buckets)
    return {"rows": source.num_rows, "matched": int(match.sum())}


def part_number(path: str) -> int:
    """Which of LAION's 32 parts a file is, by its name: part-00017-..., laion_face_part_00017.parquet.

    Raises:
        RecipeError: the name does not say.
    """
    match = re.search(r"part[-_]?(\d+)", path.rsplit("/", 1)[-1])
    if not match:
        raise RecipeError(
            f"sources.laion_face.ids is a list by part, and the name of {path} does not say which part it is: name it "
            "part-000NN.parquet"
        )
    return int(match[1])


def allowed_ids(path: str | None, parts: list[str]) -> dict[int, ray.ObjectRef] | None:
    """SAMPLE_IDs of LAION-Face for each file of `parts`, in the object store; None where there is no such list.

    Raises:
        RecipeError: the file of the list is not one, or lacks a part.
    """
    if path is None:
        return None
    import torch

    with open_file(expand_paths([path], f"{FIELD}.ids")[0]) as file:
        data = io.BytesIO(file.read())
    try:
        lists = torch.load(data, weights_only=True)
    except Exception as error:  # a damaged file can make torch raise anything
        raise RecipeError(
            f"{FIELD}.ids: {path} cannot be read ({first_line(error)}): download laion_face_ids.pth again"
        ) from error
    if not isinstance(lists, list | tuple):
        raise RecipeError(
            f"{FIELD}.ids: {path} holds a {type(lists).__name__}, not a list by part: take laion_face_ids.pth"
        )
    numbers = [part_number(part) for part in parts]
    if max(numbers) >= len(lists):
        raise RecipeError(
            f"sources.laion_face.ids: {path} lists {len(lists)} parts, the recipe names part {max(numbers)}"
        )
    return {
        place: ray.put(np.unique(np.asarray(list(lists[number]), dtype=np.int64)))
        for place, number in enumerate(numbers)
    }
