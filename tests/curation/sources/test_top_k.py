"""The resolution sort, and the sources under it."""

from __future__ import annotations

import ast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common.settings import RecipeError
from curation.recipe import recipe as recipes
from curation.run_directory.run import Run
from curation.sources import database, files, urls
from curation.sources.join import IdsClash, check_sources
from curation.sources.top_k import select, wanted_and_selected
from tests.bench.selection.normalised import image_id, urls_of_every_kind
from tests.servers.bucket import s3_bucket
from tests.world import url_ids


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
    assert url_ids([url]) == [image_id(url)]


def test_ids_of_a_hundred_thousand_urls_are_those_of_python():
    urls = urls_of_every_kind(100_000)
    assert url_ids(urls) == [image_id(url) for url in urls]


def test_what_makes_two_urls_one_image():
    same = url_ids(["http://a.test/p", "HTTP://A.TEST:80/p#x", "http://a.test:80/p"])
    assert len(set(same)) == 1
    other = url_ids(
        ["http://a.test/P", "https://a.test/p", "http://a.test:81/p", "http://a.test/p?", "http://a.test/%70"]
    )
    assert len({*same, *other}) == 6
    assert url_ids(["nonsense", "", "//a.test/p"]) == [None, None, None]


FACES = {
    "_id": ["a", "b", "c", "d", "e"],
    "caption": ["one", "two", "three", "four", "five"],
    "url": [f"http://p.test/{name}" for name in ("x", "x", "y", "z", "w")],
    "laion_caption": [None, "photo", None, "photo", None],
    "box": [[0, 0, 10, 30], [0, 0, 20, 15], [5, 5, 6, 9], [0, 0, 15, 16], [0, 0, 1, 1]],
}
SIZES = {
    "SAMPLE_ID": [3, 2, 9, 4],
    "URL": [f"http://p.test/{name}" for name in ("x", "x", "z", "w")],
    "width": [100, 90, None, 0],
    "height": [50, 60, 80, 80],
}


def selected_of(folder, faces=FACES, laion=SIZES, group=None, **select_fields):
    """The candidates by rank, and the counts; `group`: rows a row group."""
    folder.mkdir()
    pq.write_table(pa.table(faces), folder / "faces.parquet", row_group_size=group)
    pq.write_table(pa.table(laion), folder / "part-00000.parquet", row_group_size=group)
    sources = {"facecaption": [f"{folder}/faces.parquet"], "laion_face": {"parts": [f"{folder}/part-*.parquet"]}}
    recipe = recipes.parse({"name": "x", "sources": sources, "select": select_fields})
    run = Run(folder / "run")
    counts = select(run, recipe)
    rows = run.read_tables("candidates/*.parquet").to_pylist()
    return sorted(rows, key=lambda row: row["rank"]), counts


@pytest.mark.parametrize(
    ("key", "order", "cutoff"),
    [("box_min_side", "xzyw", 15), ("box_area", "xzyw", 240), ("image_area", "x", 5400), ("image_min_side", "x", 60)],
)
def test_the_keys(tmp_path, key, order, cutoff):
    """y and z tie by no key; an image without a size comes last, by its id."""
    count = {"x": 1}.get(order, 2)
    rows, counts = selected_of(tmp_path / "a", key=key, count=count, rank_over="metadata")
    unsized = sorted((row for row in rows if row["url"][-1] not in order), key=lambda row: row["id"])
    assert [row["url"][-1] for row in rows] == [*order, *(row["url"][-1] for row in unsized)]
    assert counts["cutoff"] == cutoff


def test_of_what_the_sources_say_the_first_counts(tmp_path):
    """Faces in the order of their rows; of two sizes that of the smaller SAMPLE_ID."""
    (best, *_), _ = selected_of(tmp_path / "a", fraction=1.0)
    assert [face["source_id"] for face in best["faces"]] == ["a", "b"]
    assert best["laion_caption"] == "photo"
    assert (best["sample_id"], best["width"], best["height"]) == (2, 90, 60)


def many_faces(rows: int = 6000) -> dict[str, list]:
    draw = np.random.default_rng(0)
    sides = draw.integers(1, 40, (rows, 2)).tolist()
    boxes = [
        [3, 4, 3 + width, 4 + height] if row % 3 else f"[3, 4, {3 + width}, {4 + height}]"
        for row, (width, height) in enumerate(sides)
    ]
    images = draw.integers(0, rows // 2, rows).tolist()
    return {
        "_id": [str(row) for row in range(rows)],
        "caption": [f"caption {row % 7}" for row in range(rows)],
        "url": [f"http://p.test/{image}" for image in images],
        "laion_caption": [None] * rows,
        "box": [box if isinstance(box, str) else str(box) for box in boxes],
    }


def test_ranks_are_exact_and_ties_go_by_id(tmp_path):
    faces = many_faces()
    rows, _ = selected_of(tmp_path / "a", faces, count=100)
    best = {}
    for url, text in zip(faces["url"], faces["box"], strict=True):
        x1, y1, x2, y2 = ast.literal_eval(text)
        best[url] = max(best.get(url, 0), min(x2 - x1, y2 - y1))
    expected = sorted(best, key=lambda url: (-best[url], image_id(url)))
    assert [row["url"] for row in rows] == expected
    assert [row["rank"] for row in rows] == list(range(len(expected)))


def test_a_bucket_is_as_good_as_a_disk(tmp_path):
    import s3fs

    faces = many_faces(300)
    here, counts = selected_of(tmp_path / "here", faces, count=100)
    with s3_bucket("both"):
        for name in ("faces.parquet", "part-00000.parquet"):
            s3fs.S3FileSystem().put_file(str(tmp_path / "here" / name), f"both/in [1]/{name}")
        laion = {"parts": ["s3://both/in [1]/part-*.parquet"]}
        sources = {"facecaption": ["s3://both/in [1]/faces.parquet"], "laion_face": laion}
        run = Run("s3://both/run [1]")
        recipe = recipes.parse({"name": "x", "sources": sources, "select": {"count": 100}})
        check_sources(recipe)
        assert select(run, recipe) == counts
        rows = run.read_tables("candidates/*.parquet").to_pylist()
        assert not run.glob("work/**")
    assert sorted(rows, key=lambda row: row["rank"]) == here


def test_row_groups_change_nothing(tmp_path, monkeypatch):
    faces = many_faces()
    plain = selected_of(tmp_path / "plain", faces, count=100)
    assert selected_of(tmp_path / "small", faces, group=7, count=100) == plain
    monkeypatch.setattr(files, "LARGE", 1)
    monkeypatch.setattr(files, "ROWS", 100)
    assert selected_of(tmp_path / "large", faces, count=100) == plain


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"count": 2, "rank_over": "metadata"}, "2 candidates selected away"),
        ({"count": 2, "overprovision": 1.5}, "1 candidate selected away"),
        ({"count": 4}, "nothing selected away"),
        ({"count": 3}, "nothing selected away, unless more than 75% of the links are alive"),
    ],
)
def test_what_the_sort_did_is_said(tmp_path, capsys, fields, words):
    selected_of(tmp_path / "a", **fields)
    assert capsys.readouterr().err.endswith(f"{words}\n")


def test_two_urls_of_one_id_stop_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "MACROS", urls.MACROS.replace("left(hash, 16)", "left(hash, 1)"))
    with pytest.raises(IdsClash, match="two URLs share an id: http://p.test/.* and http://p.test/.*; drop one"):
        selected_of(tmp_path / "a", many_faces(200), count=2)


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


def test_the_sample_is_counted_to_the_row(sample, tmp_path):
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


def test_a_count_out_of_reach_can_be_corrected(small_world, tmp_path):
    """The refusal leaves nothing behind that the corrected recipe would stumble over."""
    from curation.pipeline import Curation
    from tests.world import small_recipe

    run = Run(tmp_path / "run")
    # told by the files' metadata, before any work; and by what can be used of them
    for count, pool in ((5000, "rows, each a face at most"), (rows_in(small_world), "candidates")):
        recipe = small_recipe(small_world, "select.fraction=null", f"select.count={count}")
        with pytest.raises(RecipeError, match=f"cannot be reached: the sources hold [0-9,]+ {pool}"):
            Curation(run, recipe).do("select")
    run.write_bytes("work/sources/spilled.tmp", b"left by another selection")
    Curation(run, small_recipe(small_world, "select.fraction=null", "select.count=50")).do("select")
    assert run.read_json("selected/counts.json")["wanted"] == 50
    Curation(run, small_recipe(small_world, "select.fraction=null", "select.count=50", "select.memory_gb=1"))
    with pytest.raises(RecipeError, match="started with another `images`"):
        Curation(run, small_recipe(small_world, "select.fraction=null", "select.count=50", "images.min_side=64"))


def rows_in(world) -> int:
    return sum(pq.ParquetFile(path).metadata.num_rows for path in (world / "facecaption").glob("*.parquet"))


def test_a_source_of_which_nothing_can_be_used_is_said(tmp_path):
    columns = {"_id": ["a", "b"], "caption": ["x", None], "url": ["UNKNOWN", "http://p.test/1"]}
    table = pa.table({**columns, "laion_caption": ["", ""], "box": ["[1, 2, 3, 4]"] * 2})
    for name, rows, words in (("all", table, "of 2: caption_missing 1, url_unknown 1"), ("empty", table[:0], "of 0")):
        path = tmp_path / f"{name}.parquet"
        pq.write_table(rows, path)
        tree = {"name": "x", "sources": {"facecaption": [str(path)]}, "select": {"fraction": 1.0}}
        with pytest.raises(RecipeError, match=f"sources.facecaption: no row of {path} can be used, {words}"):
            select(Run(tmp_path / name), recipes.parse(tree))


def test_what_the_sources_say_is_part_of_the_content(sample, small_world, tmp_path):
    """The same images with LAION-Face's columns are other samples."""
    from tests.world import small_recipe

    with_laion = [f"sources.laion_face.parts=['{sample}/laion-face/*.parquet']"]
    alone, again, with_more = (
        select(Run(tmp_path / str(number)), small_recipe(small_world, *sources))["digest"]
        for number, sources in enumerate(([], [], with_laion))
    )
    assert alone == again != with_more
