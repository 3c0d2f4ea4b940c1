"""The sample is what it says: true schemas, the same bytes each time, labels that hold."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from common.decode import Undecodable, decode, upright_box
from common.hashing import sha256_of_bytes
from common.pinned_files.packages import cache_dir
from curation.sample import folder as front
from curation.sample.addresses import FAILING, SECOND_URLS, SUCCEEDING
from curation.sample.boxes import choose, made_up, stored_boxes
from curation.sample.derived import DerivedPicture, derived_pictures
from curation.sample.photos import photos
from curation.sample.web import canonical_url
from tests.world import url_ids

LABELS = Path(__file__).parents[2] / "labels" / "sample-photos.csv"


@pytest.fixture(scope="module")
def sample() -> Path:
    """The one in the cache: made once, by whoever comes first."""
    front.make_sample(cache_dir() / "sample")
    return cache_dir() / "sample"


@pytest.fixture(scope="module")
def items() -> list[DerivedPicture]:
    return derived_pictures(photos())


@pytest.fixture(scope="module")
def facecaption(sample: Path) -> pa.Table:
    return pa.concat_tables([pq.read_table(path) for path in sorted(sample.glob("facecaption/*.parquet"))])


def test_photos_are_the_labelled_ones() -> None:
    labelled = {(row["sha256"], row["package"], row["file"]) for row in csv.DictReader(open(LABELS, newline=""))}
    found = photos()
    assert {(photo.sha256[:16], photo.package, photo.file) for photo in found} == labelled
    assert [photo.sha256 for photo in found] == sorted({photo.sha256 for photo in found})
    assert set(stored_boxes()) == {photo.sha256 for photo in found}


def test_two_makes_are_the_same_bytes(sample: Path, tmp_path: Path) -> None:
    front.make_sample(tmp_path / "again")
    names = sorted(path.relative_to(sample) for path in sample.rglob("*") if path.is_file())
    assert names == sorted(
        path.relative_to(tmp_path / "again") for path in (tmp_path / "again").rglob("*") if path.is_file()
    )
    differ = [str(name) for name in names if (sample / name).read_bytes() != (tmp_path / "again" / name).read_bytes()]
    assert differ == []
    assert list(tmp_path.iterdir()) == [tmp_path / "again"], "nothing is left of the making"


def test_a_second_call_does_nothing(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curation.sample.contents.write_contents", lambda *_: pytest.fail("made again"))
    assert front.make_sample(sample)["version"] == front.version()


def test_killed_while_making_leaves_nothing_under_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(folder: Path, _: object) -> None:
        (folder / "photos").mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr("curation.sample.contents.write_contents", half)
    with pytest.raises(KeyboardInterrupt):
        front.make_sample(tmp_path / "sample")
    assert list(tmp_path.iterdir()) == []


def test_an_older_sample_is_replaced_and_another_folder_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curation.sample.contents.write_contents", lambda folder, _: {"photos": 0})
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / front.STAMP).write_text('{"version": "of another day"}')
    (tmp_path / "old" / "left").write_text("over")
    assert front.make_sample(tmp_path / "old") == {"version": front.version(), "photos": 0}
    assert [path.name for path in (tmp_path / "old").iterdir()] == [front.STAMP]
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter-1.tex").write_text("...")
    with pytest.raises(front.SampleError, match="--out"):
        front.make_sample(tmp_path / "thesis")


def test_facecaption_has_the_true_schema(facecaption: pa.Table) -> None:
    assert {field.name: str(field.type) for field in facecaption.schema} == {
        "_id": "string",
        "caption": "list<element: string>",
        "url": "string",
        "laion_caption": "list<element: string>",
        "box": "string",
    }
    sizes = Counter(len(value) for value in facecaption["laion_caption"].to_pylist())
    assert set(sizes) == {0, 1}
    assert [None] in facecaption["laion_caption"].to_pylist()
    assert any(url and ", " in url for url in facecaption["url"].to_pylist())


def sound_box(text: str | None) -> bool:
    try:
        box = json.loads(text or "")
    except ValueError:
        return False
    if not isinstance(box, list) or len(box) != 4 or not all(isinstance(value, int) for value in box):
        return False
    return box[0] < box[2] and box[1] < box[3] and box[2] > 0 and box[3] > 0


def test_rows_reconcile(sample: Path, facecaption: pa.Table) -> None:
    counts = json.loads((sample / front.STAMP).read_text())
    faces = counts["facecaption"]
    assert facecaption.num_rows == faces["rows"] == faces["merged"] + sum(faces["dropped"].values())
    assert set(faces["dropped"]) == {
        "url_unknown", "url_malformed", "box_malformed", "box_empty", "caption_missing", "duplicate_row",
    }  # fmt: skip
    rows = facecaption.to_pylist()
    urls = [(row["url"] or "").split(", ")[0] for row in rows]
    seen = {
        (identity, row["box"].replace(" ", ""), row["caption"][0])
        for row, url, identity in zip(rows, urls, url_ids(urls), strict=True)
        if identity and url.lower().startswith("http") and sound_box(row["box"]) and any(row["caption"] or [])
    }
    candidates = {identity for identity, *_ in seen}
    assert len(seen) == faces["merged"]
    assert len(candidates) == faces["candidates"] == counts["urls"]
    assert counts["urls"] == counts["photos"] + counts["made"] + SECOND_URLS + len(FAILING)
    assert sum(counts["expect"].values()) == counts["urls"]


def test_several_faces_share_a_url(facecaption: pa.Table) -> None:
    faces = Counter(url for url in facecaption["url"].to_pylist() if url and url != "UNKNOWN")
    assert max(faces.values()) >= 6 and sum(count > 1 for count in faces.values()) > 40


def test_laion_joins_by_normalised_url(sample: Path, facecaption: pa.Table) -> None:
    parts = [pq.read_table(path) for path in sorted(sample.glob("laion-face/*.parquet"))]
    columns = ["SAMPLE_ID", "URL", "TEXT", "HEIGHT", "WIDTH", "LICENSE", "NSFW", "similarity"]
    assert all(part.column_names == columns for part in parts)
    assert [str(part.schema.field("WIDTH").type) for part in parts] == ["int32", "int32", "double", "int32"]
    ids = torch.load(sample / "laion-face/laion_face_ids.pth", weights_only=True)
    assert len(ids) == len(parts) and all(0 < len(some) < part.num_rows for some, part in zip(ids, parts, strict=True))
    known = {item for item in url_ids([(url or "").split(", ")[0] for url in facecaption["url"].to_pylist()]) if item}
    matched, spelled = set(), set()
    for part, allowed in zip(parts, ids, strict=True):
        for row, identity in zip(part.to_pylist(), url_ids(part["URL"].to_pylist()), strict=True):
            if row["SAMPLE_ID"] in set(allowed) and identity in known:
                matched.add(identity)
                spelled.add(row["URL"])
    assert len(matched) == json.loads((sample / front.STAMP).read_text())["laion_face"]["matched"]
    assert len(spelled - set(facecaption["url"].to_pylist())) > 40, "another spelling joins, too"
    assert sum(part.num_rows for part in parts) > 4 * len(matched), "most of LAION is about other pictures"


def test_hq_table_says_that_it_is_invented(sample: Path) -> None:
    table = pq.read_table(sample / "hq4m/FaceCaptionHQ-4M.parquet")
    assert table.column_names == ["url", "image_caption", "face_caption", "image_short_caption"]
    assert all("Invented" in text for text in table["image_caption"].to_pylist())


def test_made_pictures_decode_as_labelled(sample: Path, items: list[DerivedPicture]) -> None:
    rows = {row["file"]: row for row in csv.DictReader(open(sample / "made.csv", newline=""))}
    assert len(items) == len({item.name for item in items}) == len(rows)
    for item in items:
        assert rows[f"photos/made/{item.name}"]["sha256"] == sha256_of_bytes(item.data)
        try:
            picture = decode(item.data)
        except Undecodable as error:
            assert (item.decodes, item.verdict) == (error.reason, ""), item.name
            continue
        assert item.decodes == "ok", item.name
        if item.verdict == "grayscale":
            assert picture.rgb.astype(float).std(axis=2).mean() < 1, item.name
    assert {item.decodes for item in items} >= {
        "truncated", "corrupt", "animated", "gif", "bmp", "too_small", "too_many_pixels", "html",
        "empty", "ok",
    }  # fmt: skip


def test_made_pictures_are_the_kinds_they_are_named_for(items: list[DerivedPicture]) -> None:
    data = {item.kind: item.data for item in items}
    kinds = "progressive_jpeg cmyk_jpeg palette_alpha_png grey16_png animated_gif animated_webp".split()
    opened = {kind: Image.open(io.BytesIO(data[kind])) for kind in kinds}
    assert opened["progressive_jpeg"].info["progressive"]
    assert (opened["cmyk_jpeg"].mode, opened["palette_alpha_png"].mode) == ("CMYK", "P")
    assert "transparency" in opened["palette_alpha_png"].info
    assert opened["grey16_png"].mode == "I;16"
    assert data["rgb16_png"][24:26] == b"\x10\x02", "16 bits a channel, RGB"
    assert (opened["animated_gif"].n_frames, opened["animated_webp"].n_frames) == (3, 3)
    assert len(data["decompression_bomb"]) < 1000


def test_turned_boxes_come_back_upright(items: list[DerivedPicture]) -> None:
    by_kind = {item.kind: item for item in items}
    for orientation, upright in ((3, "progressive_jpeg"), (6, "cmyk_jpeg"), (8, "jpeg_named_png")):
        turned, straight = by_kind[f"exif_orientation_{orientation}"], by_kind[upright]
        picture = decode(turned.data)
        assert (picture.width, picture.height, picture.orientation) == (*straight.size, orientation)
        assert upright_box(turned.boxes[0], orientation, picture.width, picture.height) == straight.boxes[0]


def test_a_box_for_every_picture() -> None:
    assert choose([(10.4, 20, 50, 80, 0.9), (0, 0, 9, 9, 0.7), (1, 1, 9, 9, 0.3)], 100, 100, "a") == [
        ((0, 0, 9, 9), 0.7),
        ((10, 20, 50, 80), 0.9),
    ]
    assert choose([(-3, 1, 60, 70, 0.2), (1, 1, 9, 9, 0.3)], 50, 60, "a") == [((1, 1, 9, 9), 0.3)]
    assert choose([], 200, 100, "a") == [(made_up(200, 100, "a"), 0.0)] == choose([], 200, 100, "a")
    for photo in photos()[::20]:
        with Image.open(photo.path) as image:
            for (x1, y1, x2, y2), _ in stored_boxes()[photo.sha256]:
                assert 0 <= x1 < x2 <= image.width and 0 <= y1 < y2 <= image.height


def test_urls_have_the_shapes_of_the_web(sample: Path, facecaption: pa.Table) -> None:
    urls = [url.split(", ")[0] for url in set(facecaption["url"].to_pylist()) if url and url.lower().startswith("http")]
    assert any(" " in url for url in urls) and any(not url.isascii() for url in urls)
    assert any("%C3%A9" in url for url in urls) and any("?" in url for url in urls)
    assert any(":80/" in url for url in urls) and any("#" in url for url in urls)
    assert any(canonical_url(url).split("/")[2] != url.split("/")[2].removesuffix(":80") for url in urls), (
        "host in capitals"
    )
    entries = json.loads((sample / "behaviour.json").read_text())["urls"]
    assert {entry["name"] for entry in entries.values() if entry.get("candidate")} >= {
        name for name, *_ in (*SUCCEEDING, *FAILING)
    }
    assert all(url.split("/")[2].endswith(".test") and url.startswith("http://") for url in entries)
