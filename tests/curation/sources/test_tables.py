"""The sources' files: what costs a row, what is said before any work, and which files a path names."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from common.settings import RecipeError
from curation.recipe import recipe as recipes
from curation.recipe.recipe import Recipe
from curation.sources import facecaption, laion_face
from curation.sources.database import Database
from curation.sources.files import expand_paths, row_count, rows_of
from curation.sources.join import check_sources, read_faces, read_others
from tests.servers.bucket import s3_bucket
from tests.world import ROOT

ROWS = {
    "_id": ["a", "b", "c"],
    "caption": ["one man", "two men", "three men"],
    "url": [f"http://p.test/{number}.jpg" for number in range(3)],
    "laion_caption": [["one"], [None], []],
    "box": ["[1, 2, 30, 40]"] * 3,
}


def write(path, columns) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return str(path)


def recipe_of(path: str | Path, **sources) -> Recipe:
    return recipes.parse({"name": "x", "sources": {"facecaption": [str(path)], **sources}, "select": {"fraction": 1.0}})


def faces_in(path: str, scratch: Path):
    """The counts, and the rows that became faces."""
    recipe = recipe_of(path)
    check_sources(recipe)
    with Database(scratch, 1) as database:
        counts = read_faces(database, recipe)
        return counts, database.rows("SELECT id, url, face.* FROM faces WHERE dropped IS NULL ORDER BY face.source_id")


def faces_of(tmp_path, **changes):
    return faces_in(write(tmp_path / "faces.parquet", {**ROWS, **changes}), tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"box": [[1, 2, 30, 40]] * 3},
        {"box": pa.array([{"x": 1, "y": 2, "w": 29, "h": 38}] * 3)},
        {"_id": pa.array(ROWS["_id"]).dictionary_encode(), "caption": pa.array([[text] for text in ROWS["caption"]])},
        {name: pa.array(ROWS[name]).cast(pa.large_string()) for name in ("_id", "url", "box", "caption")},
        {"url": pa.array([[url] for url in ROWS["url"]], pa.large_list(pa.large_string()))},
        {"caption": pa.array([text.encode() for text in ROWS["caption"]])},
        {"laion_caption": pa.nulls(3)},
    ],
)
def test_a_table_is_read_however_it_is_stored(tmp_path, changes):
    counts, faces = faces_of(tmp_path, **changes)
    assert counts == {"rows": 3, "dropped": {}, "candidates": 3}
    assert [face["caption"] for face in faces] == ROWS["caption"]
    assert all(face["box"] == [1, 2, 30, 40] for face in faces)


def test_blanks_around_a_url_are_no_part_of_it(tmp_path):
    _, plain = faces_of(tmp_path / "plain")
    _, faces = faces_of(tmp_path / "blanks", url=[f"{before}{url}{after}" for before, url, after in zip(
        (" ", "\t", ""), ROWS["url"], ("", "\r\n", ", http://p.test/other.jpg"), strict=True)])  # fmt: skip
    assert [(face["id"], face["url"]) for face in faces] == [(face["id"], face["url"]) for face in plain]


def test_a_damaged_page_is_told_with_its_file(tmp_path):
    path = write(tmp_path / "faces.parquet", ROWS)
    facecaption.check([path])
    with open(path, "r+b") as file:
        file.seek(8)
        file.write(b"\xff" * 40)
    with pytest.raises(RecipeError, match=f"{path}: row group 0 is damaged .*: download or copy the file again"):
        faces_in(path, tmp_path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"caption": pa.array([b"x", b"caf\xe9 \xff!", b"z"]).view(pa.string())}, "not_utf8"),
        ({"caption": pa.array([[b"x"], [b"\xff"], [b"z"]])}, "not_utf8"),
        ({"url": pa.array([b"http://p.test/0", b"http://p.test/\xff", b"http://p.test/2"])}, "not_utf8"),
        ({"_id": pa.array([b"a", b"\xc3", b"c"])}, "not_utf8"),
        ({"laion_caption": pa.array([b"a", b"\xf5", b"c"])}, "not_utf8"),
        ({"caption": ["x", "\u200b\u3000", "z"]}, "caption_missing"),
        ({"caption": [["x"], ["\u2800", None], ["z"]]}, "caption_missing"),
        ({"box": [[1, 2, 30, 40], [1, 2, 30], [1, 2, 30, 40]]}, "box_malformed"),
        ({"box": [[1.0, 2, 30, 40], [1, 2, float("nan"), 4], [1, 2, 30, 40]]}, "box_malformed"),
        ({"box": ["(1, 2, 30, 40)", b"\xff".decode("latin1"), "1 2 30 40"]}, "box_malformed"),
    ],
)
def test_what_cannot_be_read_costs_its_row_only(tmp_path, changes, reason):
    counts, faces = faces_of(tmp_path, **changes)
    assert counts == {"rows": 3, "dropped": {reason: 1}, "candidates": 2}
    assert [face["source_id"] for face in faces] == ["a", "c"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"caption": [1, 2, 3]}, "caption is int64.*text, or a list of texts"),
        ({"url": pa.array([{"a": 1}] * 3)}, "url is struct.*text"),
        ({"box": [1, 2, 3]}, r"box is int64.*four numbers.*\{x, y, w, h\}"),
        ({"box": pa.array([{"x": 1}] * 3)}, "box is struct<x: int64>.*four numbers"),
        ({"laion_caption": pa.array([True] * 3)}, "laion_caption is bool"),
    ],
)
def test_a_column_that_cannot_be_read_is_said_before_any_work(tmp_path, changes, words):
    path = write(tmp_path / "faces.parquet", {**ROWS, **changes})
    with pytest.raises(RecipeError, match=f"sources.facecaption: file://{path}: the column {words}"):
        facecaption.check([path])


def test_a_file_that_is_no_table_is_said(tmp_path):
    (tmp_path / "faces.csv").write_text("_id,caption\n")
    with pytest.raises(RecipeError, match="not a readable parquet file.*COPY"):
        facecaption.check([str(tmp_path / "faces.csv")])
    with pytest.raises(RecipeError, match=r"is a folder: name the files in it"):
        facecaption.check([str(tmp_path)])


def test_the_example_of_the_docs_is_a_source(tmp_path, monkeypatch):
    text = (ROOT / "docs" / "curation.md").read_text()
    monkeypatch.chdir(tmp_path)
    exec(text.split("## What a source holds")[1].split("```python\n")[1].split("```")[0], {})
    counts, faces = faces_in("faces.parquet", tmp_path)
    assert counts["rows"] == 1 and [face["box"] for face in faces] == [[42, 56, 230, 317]]


CAPTIONS = ["A man's hat, on a table.", 'A sign that says "open"', "['Plain'] words", "C:\\new", "'quoted'"]


@pytest.mark.parametrize(
    "column",
    [
        pa.array(CAPTIONS), pa.array([[text] for text in CAPTIONS]), pa.array([text.encode() for text in CAPTIONS]),
        pa.array([[text] for text in CAPTIONS], pa.large_list(pa.large_string())),
        pa.array(CAPTIONS).dictionary_encode(),
    ],
)  # fmt: skip
def test_captions_of_hq_are_kept_letter_for_letter(tmp_path, column):
    urls = [f"http://p.test/{number}.jpg" for number in range(5)]
    columns = {"url": urls, "face_caption": ["y"] * 5, "image_caption": column, "image_short_caption": column}
    hq, faces = write(tmp_path / "hq.parquet", columns), write(tmp_path / "faces.parquet", five_faces(urls))
    recipe = recipe_of(faces, hq4m=[hq])
    check_sources(recipe)
    with Database(tmp_path, 1) as database:
        read_faces(database, recipe)
        assert read_others(database, recipe) == {"hq_rows": 5}
        rows = database.rows("SELECT image_caption, image_short_caption FROM published")
    assert sorted(row["image_caption"] for row in rows) == sorted(CAPTIONS)
    assert all(row["image_short_caption"] == row["image_caption"] for row in rows)


def five_faces(urls: list[str]) -> dict[str, list]:
    return {**{name: [values[0]] * len(urls) for name, values in ROWS.items()}, "url": urls}


@pytest.mark.parametrize("kind", [pa.int64(), pa.uint64(), pa.string()])
def test_a_null_sample_id_does_not_change_its_neighbours(tmp_path, kind):
    large = 2**60 + 1 if kind != pa.string() else 10**17 + 1
    ids = pa.array([large, None, 5], pa.int64()).cast(kind)
    path = write(tmp_path / "part-00000.parquet", {"SAMPLE_ID": ids, "url": ROWS["url"], "WIDTH": [640.0, None, 0.5]})
    torch.save([[large - 1, 5]], tmp_path / "others.pth")
    torch.save([[0, large]], tmp_path / "mine.pth")
    for lists, found in (("others", [(5, 0)]), ("mine", [(large, 640)])):
        laion = {"parts": [path], "ids": str(tmp_path / f"{lists}.pth")}
        recipe = recipe_of(write(tmp_path / "faces.parquet", ROWS), laion_face=laion)
        check_sources(recipe)
        with Database(tmp_path, 1) as database:
            read_faces(database, recipe)
            assert read_others(database, recipe) == {"laion_rows": 3}
            rows = database.rows("SELECT sample_id, width FROM sizes")
        assert [(row["sample_id"], row["width"]) for row in rows] == found


@pytest.mark.parametrize(
    ("content", "words"), [(b"<html>", "cannot be read"), ({"0": [1]}, "holds a dict"), ([], "lists 0 parts")]
)
def test_a_list_of_ids_that_is_none_is_told(tmp_path, content, words):
    path = tmp_path / "laion_face_ids.pth"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(RecipeError, match=f"sources.laion_face.ids: {path} {words}"):
        laion_face.allowed_ids(str(path), ["part-00000.parquet"])


@pytest.mark.parametrize("name", ["src [v2]/a.parquet", "what?/a.parquet", "a*b/[1].parquet", "a/b.parquet"])
def test_a_path_that_exists_is_itself(tmp_path, name):
    path = write(tmp_path / name, ROWS)
    (found,) = expand_paths([path], "f")
    assert found.endswith(name)
    assert row_count([found]) == 3
    assert [rows.table.num_rows for rows in rows_of([found], ["caption"])] == [3]
    facecaption.check([path])


def test_folders_that_exist_are_no_pattern(tmp_path, monkeypatch):
    for name in ("src [v2]/a.parquet", "src [v2]/b.parquet", "src v/c.parquet", "src 2/deep/d.parquet"):
        write(tmp_path / name, ROWS)

    def names(pattern):
        return [path.split("/", 3)[-1].removeprefix(f"{tmp_path}/"[1:]) for path in expand_paths([pattern], "f")]

    assert names(f"{tmp_path}/src [v2]/*.parquet") == ["src [v2]/a.parquet", "src [v2]/b.parquet"]
    assert names(f"{tmp_path}/src [v]/*.parquet") == ["src v/c.parquet"]
    assert names(f"{tmp_path}/*/?.parquet") == ["src [v2]/a.parquet", "src [v2]/b.parquet", "src v/c.parquet"]
    assert names(f"{tmp_path}/**/d.parquet") == ["src 2/deep/d.parquet"]
    monkeypatch.chdir(tmp_path)
    assert names("src [v2]/a*") == ["src [v2]/a.parquet"]
    with pytest.raises(RecipeError, match="f: nothing is at .*none"):
        expand_paths([f"{tmp_path}/none/*.parquet"], "f")


def test_sources_on_an_object_store(tmp_path):
    import s3fs

    path = write(tmp_path / "a.parquet", ROWS)
    with s3_bucket("sources"):
        for name in ("src [v2]/a.parquet", "src [v2]/b.parquet", "c.parquet"):
            s3fs.S3FileSystem().put_file(path, f"sources/{name}")
        for pattern, count in (("src [v2]/a.parquet", 1), ("src [v2]/*.parquet", 2), ("*.parquet", 1)):
            found = expand_paths([f"s3://sources/{pattern}"], "f")
            assert len(found) == count
            assert row_count(found) == 3 * count
            facecaption.check(found)
