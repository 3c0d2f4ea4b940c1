"""LAION-Face: sizes, licence and other facts of the images that FaceCaption has. Of its rows only the matches are written."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from common.failures.mendable import first_line
from common.paths import open_file
from common.settings import RecipeError
from curation.recipe.recipe import LaionFace
from curation.sources.columns import numbers, texts, whole_numbers
from curation.sources.files import Rows, expand_paths, rows_of
from curation.sources.schema_check import NUMBER, TEXT, WORD, require_columns

FIELD = "sources.laion_face"
COLUMNS = {"SAMPLE_ID": NUMBER, "URL": TEXT}
OPTIONAL_COLUMNS = {"height": NUMBER, "width": NUMBER, "similarity": NUMBER, "license": WORD, "nsfw": WORD}
READ = pa.schema(
    {
        "SAMPLE_ID": pa.int64(),
        "URL": pa.large_string(),
        **dict.fromkeys(("height", "width", "similarity"), pa.float64()),
        **dict.fromkeys(("license", "nsfw"), pa.large_string()),
    }
)
TABLE = """
    CREATE TABLE laion (
        id UBIGINT, sample_id BIGINT, width INTEGER, height INTEGER, similarity FLOAT, license VARCHAR, nsfw VARCHAR
    )
"""
MATCHES_SQL = """
    INSERT INTO laion
    SELECT id_in(URL) AS id, SAMPLE_ID, TRY_CAST(width AS INTEGER), TRY_CAST(height AS INTEGER),
           TRY_CAST(similarity AS FLOAT), license, nsfw
    FROM source WHERE id IN (SELECT id FROM images)
"""


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


def read(paths: list[str], allowed: dict[int, np.ndarray] | None) -> Iterator[pa.Table]:
    """The rows as MATCHES_SQL wants them. `allowed`: by file, the SAMPLE_IDs that are LAION-Face (int64, sorted); None where
    all are."""
    for rows in rows_of(paths, [*COLUMNS, *OPTIONAL_COLUMNS]):
        yield from _read(rows, None if allowed is None else allowed[rows.file_number])


def _read(rows: Rows, allowed: np.ndarray | None) -> Iterator[pa.Table]:
    source = rows.table
    columns = {"SAMPLE_ID": whole_numbers(source["SAMPLE_ID"]), "URL": texts(source["URL"])[0]}
    for name, kind in OPTIONAL_COLUMNS.items():
        if name not in source.column_names:
            columns[name] = pa.nulls(source.num_rows, READ.field(name).type)
        else:
            columns[name] = texts(source[name])[0] if kind is WORD else numbers(source[name])
    table = pa.table(columns).select(READ.names)
    if allowed is not None:
        # filled, since numpy has no null but that of float64, which rounds large numbers
        sample_ids = columns["SAMPLE_ID"].fill_null(0).to_numpy()
        place = np.minimum(np.searchsorted(allowed, sample_ids), max(len(allowed) - 1, 0))
        among = allowed[place] == sample_ids if len(allowed) else np.zeros(len(sample_ids), bool)
        table = table.filter(pc.and_(pa.array(among), columns["SAMPLE_ID"].is_valid()))
    yield table


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


def allowed_ids(path: str | None, parts: list[str]) -> dict[int, np.ndarray] | None:
    """SAMPLE_IDs of LAION-Face for each file of `parts`, sorted; None where there is no such list.

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
    return {place: np.unique(np.asarray(list(lists[number]), dtype=np.int64)) for place, number in enumerate(numbers)}
