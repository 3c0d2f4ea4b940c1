"""The resolution sort, and the sources under it."""

from __future__ import annotations

import hashlib
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common.settings import RecipeError
from curation.recipe import recipe as recipes
from curation.run_directory.run import Run
from curation.sources.top_k import ranks, select, sort_key, wanted_and_selected
from tests.world import url_ids


def reference_id(url: str) -> str:
    """The id, written out with the standard library."""
    parts = urlsplit(url)
    default = {"http": 80, "https": 443}.get(parts.scheme.lower())
    port = "" if parts.port in (None, default) else f":{parts.port}"
    user = parts.netloc.rpartition("@")[0]
    rest = url.split("#")[0].split("://", 1)[1]
    rest = rest[min([rest.find(c) for c in "/?" if c in rest] or [len(rest)]) :]
    normal = f"{parts.scheme.lower()}://{user + '@' if user else ''}{parts.hostname}{port}{rest}"
    return hashlib.sha1(normal.encode()).hexdigest()[:16]


@pytest.mark.parametrize(
    "url",
    [
        "http://a.test/x.jpg",
        "HTTP://A.Test:80/X.jpg?Q=1#frag",
        "https://a.test:443/%C3%A9/ü x.jpg",
        "https://a.test:8443?q=/",
        "http://User:Pa@A.test/x",
        "http://a.test",
    ],
)
def test_an_id_is_sha1_of_the_normalised_url(url):
    assert url_ids([url]) == [reference_id(url)]


def test_what_makes_two_urls_one_image():
    same = url_ids(["http://a.test/p", "HTTP://A.TEST:80/p#x", "http://a.test:80/p"])
    assert len(set(same)) == 1
    other = url_ids(
        ["http://a.test/P", "https://a.test/p", "http://a.test:81/p", "http://a.test/p?", "http://a.test/%70"]
    )
    assert len({*same, *other}) == 6
    assert url_ids(["nonsense", "", "//a.test/p"]) == [None, None, None]


def table(rows):
    faces = pa.list_(pa.struct({"box": pa.list_(pa.int32())}))
    return pa.table(
        {
            "faces": pa.array([[{"box": box} for box in boxes] for boxes, _, _ in rows], faces),
            "width": pa.array([width for _, width, _ in rows], pa.int32()),
            "height": pa.array([height for _, _, height in rows], pa.int32()),
        }
    )


def test_the_keys():
    rows = table([([[0, 0, 10, 30], [0, 0, 20, 15]], 100, 50), ([[5, 5, 6, 9]], None, 80)])
    assert sort_key(rows, "box_min_side").tolist() == [15, 1]
    assert sort_key(rows, "box_area").tolist() == [300, 4]
    np.testing.assert_equal(sort_key(rows, "image_area"), [5000, np.nan])
    np.testing.assert_equal(sort_key(rows.slice(0, 1), "image_min_side"), [50])


def test_ranks_are_exact_and_ties_go_by_id():
    draw = np.random.default_rng(0)
    ids = draw.permutation(5000).astype(np.uint64)
    keys = draw.integers(0, 40, 5000).astype(float)
    keys[:7] = np.nan
    expected = sorted(range(5000), key=lambda i: (-(keys[i] if keys[i] == keys[i] else -np.inf), ids[i]))
    assert np.argsort(ranks(ids, keys)).tolist() == expected


def a_recipe(**select_fields):
    tree = {"name": "x", "sources": {"facecaption": ["x"]}, "select": select_fields}
    return recipes.parse(tree)


def test_how_many_are_fetched():
    available = a_recipe(count=100, overprovision=1.3)
    assert wanted_and_selected(available, 1000, 1000) == (100, 130)
    assert wanted_and_selected(available, 120, 120) == (100, 120)
    assert wanted_and_selected(a_recipe(fraction=0.5, rank_over="metadata"), 1001, 1001) == (500, 500)
    assert wanted_and_selected(a_recipe(count=370, overprovision=1.1), 412, 412) == (370, 407)  # not 408: 370 x 1.1
    with pytest.raises(RecipeError, match="count 100 cannot be reached: the sources hold 99"):
        wanted_and_selected(available, 99, 99)
    with pytest.raises(RecipeError, match="of which 50 have no box_min_side"):
        wanted_and_selected(available, 120, 70)


def test_the_sample_is_counted_to_the_row(sample, ray_cluster, tmp_path):
    """All three sources: every row is a face of a candidate or was dropped for a known reason."""
    import json

    stamp = json.loads((sample / "sample.json").read_text())
    recipe = recipes.load(
        "curation/recipe/sample.yaml",
        [f"sources.hq4m=['{sample}/hq4m/*.parquet']", "select.fraction=0.5", "select.key=image_area"],
    )
    run = Run(tmp_path / "run")
    counts = select(run, recipe)
    built = run.read_json("candidates/counts.json")
    assert built["rows"] == built["merged"] + sum(built["dropped"].values())
    rows = sum(pq.ParquetFile(path).metadata.num_rows for path in (sample / "facecaption").glob("*.parquet"))
    assert built["rows"] == rows
    assert built["dropped"] == {k: v for k, v in stamp["facecaption"]["dropped"].items() if v}
    assert built["laion_matched"] == stamp["laion_face"]["matched"]
    candidates = run.read_tables("candidates/*.parquet")
    ids = candidates["id"].to_pylist()
    assert ids == sorted(set(ids)) and len(ids) == counts["candidates"]
    assert sorted(candidates["rank"].to_pylist()) == list(range(len(ids)))
    assert sum(candidates["in_hq"].to_pylist()) == built["hq_matched"] > 0
    by_rank = sorted(candidates.to_pylist(), key=lambda row: row["rank"])
    sized = [row["width"] * row["height"] for row in by_rank if row["width"]]
    assert sized == sorted(sized, reverse=True)
    assert all(row["width"] is None for row in by_rank[len(sized) :])
    selected = run.read_tables("selected/*.parquet")
    assert selected["id"].to_pylist() == sorted(row["id"] for row in by_rank[: counts["selected"]])
    assert not run.glob("work/sources/**")


def test_which_part_of_laion_a_file_is():
    from curation.sources.laion_face import part_number

    assert part_number("file:///a/part-00017-5b54c5d5-c000.snappy.parquet") == 17
    assert part_number("s3://b/laion_face_part_00003.parquet") == 3
    with pytest.raises(RecipeError, match="does not say which part"):
        part_number("/data/metadata.parquet")


def test_a_count_out_of_reach_can_be_corrected(small_world, ray_cluster, tmp_path):
    """The refusal leaves nothing behind that the corrected recipe would stumble over."""
    from curation.pipeline import Curation
    from tests.world import small_recipe

    run = Run(tmp_path / "run")
    with pytest.raises(RecipeError, match="cannot be reached"):
        Curation(run, small_recipe(small_world, "select.fraction=null", "select.count=5000")).do("select")
    run.write_bytes("work/sources/faces/00000/9999-00000.parquet", b"left by another selection")
    Curation(run, small_recipe(small_world, "select.fraction=null", "select.count=50")).do("select")
    assert run.read_json("selected/counts.json")["wanted"] == 50
    with pytest.raises(RecipeError, match="started with another `images`"):
        Curation(run, small_recipe(small_world, "select.fraction=null", "select.count=50", "images.min_side=64"))


def test_a_source_of_which_nothing_can_be_used_is_said(ray_cluster, tmp_path):
    columns = {"_id": ["a", "b"], "caption": ["x", None], "url": ["UNKNOWN", "http://p.test/1"]}
    table = pa.table({**columns, "laion_caption": ["", ""], "box": ["[1, 2, 3, 4]"] * 2})
    for name, rows, words in (("all", table, "of 2: caption_missing 1, url_unknown 1"), ("empty", table[:0], "of 0")):
        path = tmp_path / f"{name}.parquet"
        pq.write_table(rows, path)
        tree = {"name": "x", "sources": {"facecaption": [str(path)]}, "select": {"fraction": 1.0}}
        with pytest.raises(RecipeError, match=f"sources.facecaption: no row of {path} can be used, {words}"):
            select(Run(tmp_path / name), recipes.parse(tree))


def test_what_the_sources_say_is_part_of_the_content(sample, small_world, ray_cluster, tmp_path):
    """The same images with LAION-Face's columns are other samples."""
    from tests.world import small_recipe

    with_laion = [f"sources.laion_face.parts=['{sample}/laion-face/*.parquet']"]
    alone, again, with_more = (
        select(Run(tmp_path / str(number)), small_recipe(small_world, *sources))["digest"]
        for number, sources in enumerate(([], [], with_laion))
    )
    assert alone == again != with_more
