"""A look at a few slices tells how many images the whole has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.planning.pilot import population
from curation.planning.population import Overlap
from curation.planning.tables import slices_of
from curation.recipe.recipe import Sources

ROWS, GROUP = 120_000, 10_000


def write_faces(path: Path, urls: list[str]) -> None:
    words = ["x"] * len(urls)
    box = pa.array([[0, 0, 10, 10]] * len(urls), pa.list_(pa.int32()))
    table = pa.table({"_ID": words, "caption": words, "URL": urls, "laion_caption": words, "box": box, "more": words})
    pq.write_table(table, path, row_group_size=GROUP)


@pytest.mark.parametrize("apart", [False, True])
def test_how_many_images_have_several_rows(tmp_path: Path, apart: bool):
    """Side by side they meet in a slice; far apart they are told from those that meet between slices."""
    random, images = np.random.default_rng(0), ROWS // 2
    number = np.arange(ROWS) // 2
    if apart:
        number = random.permutation(np.concatenate([np.arange(images), random.integers(0, images, ROWS - images)]))
    write_faces(tmp_path / "faces.parquet", [f"http://a.example/{each}" for each in number])
    slices = slices_of(
        Sources(facecaption=[str(tmp_path / "*.parquet")]), tmp_path / "slices", np.random.default_rng(1), rows=8_000
    )
    faces = slices.facecaption
    assert faces.rows == ROWS and abs(faces.seen - 8_000) < 24 and len(faces.files) == 24 and not faces.is_whole
    tables = [pq.read_table(path) for path in faces.files]
    assert all(table.column_names == ["_id", "caption", "url", "laion_caption", "box"] for table in tables)
    distinct = len({url for table in tables for url in table["url"].to_pylist()})
    overlap = Overlap.of(faces.files)
    assert overlap.distinct == distinct
    # some 400 pairs meet
    assert population(slices, overlap, distinct) == pytest.approx(images, rel=0.12 if apart else 0.02)


def test_small_tables_are_looked_at_whole(tmp_path: Path):
    write_faces(tmp_path / "faces.parquet", [f"http://a.example/{each}" for each in range(100)])
    slices = slices_of(
        Sources(facecaption=[str(tmp_path / "faces.parquet")]), tmp_path / "slices", np.random.default_rng(0)
    )
    assert slices.facecaption.is_whole and slices.rows == slices.seen == 100 and slices.bytes > 0


def test_the_further_rows_of_an_image_are_told_from_pairs_without_bias():
    """Of a hundred rows 87 are the first of an image, the others fall on these at random."""
    random, rows, firsts = np.random.default_rng(0), 200_000, 174_000
    image = random.permutation(np.concatenate([np.arange(firsts), random.integers(0, firsts, rows - firsts)]))
    found = []
    for _ in range(20):
        starts = random.choice(rows // 1000, 24, replace=False) * 1000
        slices = [np.unique(image[start : start + 1000]) for start in starts]
        both = np.array([[len(np.intersect1d(one, other)) for other in slices] for one in slices], float)
        np.fill_diagonal(both, 0)
        distinct = len(np.unique(np.concatenate(slices)))
        overlap = Overlap(np.full(24, 1000.0), np.array([len(each) for each in slices], float), both, distinct)
        found.append(overlap.whole(rows, np.ones((1, 24)))[0])
    assert np.mean(found) == pytest.approx(firsts, rel=0.01)
