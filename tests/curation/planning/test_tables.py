"""A look at a few slices tells how many images the whole has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.planning.pilot import population
from curation.planning.tables import slices_of
from curation.recipe.recipe import Sources

ROWS, GROUP = 120_000, 10_000


def write_faces(path: Path, urls: list[str]) -> None:
    words = ["x"] * len(urls)
    box = pa.array([[0, 0, 10, 10]] * len(urls), pa.list_(pa.int32()))
    table = pa.table({"_ID": words, "caption": words, "URL": urls, "laion_caption": words, "box": box, "more": words})
    pq.write_table(table, path, row_group_size=GROUP)


@pytest.mark.parametrize("apart", [False, True])
def test_how_many_images_of_two_rows_each(tmp_path: Path, apart: bool):
    """Side by side they meet in a slice; far apart they are told from those that meet between slices."""
    number = np.random.default_rng(0).permutation(ROWS) if apart else np.arange(ROWS)
    write_faces(tmp_path / "faces.parquet", [f"http://a.example/{each // 2}" for each in number])
    slices = slices_of(
        Sources(facecaption=[str(tmp_path / "*.parquet")]), tmp_path / "slices", np.random.default_rng(1), rows=8_000
    )
    faces = slices.facecaption
    assert faces.rows == ROWS and faces.seen == 8_000 and len(faces.files) == 8 and not faces.is_whole
    tables = [pq.read_table(path) for path in faces.files]
    assert all(table.column_names == ["_id", "caption", "url", "laion_caption", "box"] for table in tables)
    distinct = len({url for table in tables for url in table["url"].to_pylist()})
    assert population(slices, distinct) == pytest.approx(ROWS / 2, rel=0.12 if apart else 0.01)


def test_small_tables_are_looked_at_whole(tmp_path: Path):
    write_faces(tmp_path / "faces.parquet", [f"http://a.example/{each}" for each in range(100)])
    slices = slices_of(
        Sources(facecaption=[str(tmp_path / "faces.parquet")]), tmp_path / "slices", np.random.default_rng(0)
    )
    assert slices.facecaption.is_whole and slices.rows == slices.seen == 100 and slices.bytes > 0
