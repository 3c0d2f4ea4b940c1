"""References from URLs, from MultiID-Bench's layouts, and from folders of people."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evaluation.__main__ import main
from evaluation.builders import build as building
from evaluation.builders.from_urls import Kept, from_urls, read_list
from evaluation.head import head_of
from evaluation.manifest import read_manifest
from evaluation.sets import SetError, open_references
from tests.real_photos import read
from tests.servers.loopback_web import Web, opener_for, serving


class Photos(Web):
    def do_cat(self):
        self.answer(200, read("cat"), Content_Type="image/png")

    def do_rocket(self):
        self.answer(200, read("rocket"))

    def do_inside(self):
        self.redirect("http://169.254.169.254/latest/meta-data")


LIST = """url,name,words,person,licence
http://photos.test/cat,tom,a cat,Tom,Unsplash
http://photos.test/moved,,,,
http://photos.test/404,,,,
http://photos.test/html,,,,
http://photos.test/inside,,,,
http://localhost/cat,,,,
file:///etc/passwd,,,,
http://photos.test/rocket,tom,,,
http://photos.test/picture,,,,
"""


@pytest.fixture
def web(monkeypatch):
    """Serves the photos of lists, which are then fetched from it."""
    with serving(Photos) as server:
        opener = opener_for(server)
        opener.client.book.allowed = opener.client.book.allowed[:1]
        monkeypatch.setitem(
            building.SOURCES, "urls",
            lambda source, out: from_urls(read_list(Path(source)), Kept(out, out / ".part" / "urls"), opener),
        )  # fmt: skip
        yield server


@pytest.fixture
def urls(tmp_path, web):
    """A function that builds a set of a list in `out`: the exit code."""

    def build(text):
        (tmp_path / "list.csv").write_text(text)
        return main(["references", "urls", str(tmp_path / "list.csv"), "--out", str(tmp_path / "out")])

    return build


def test_photos_of_urls_and_a_reason_for_each_that_is_none(urls, tmp_path):
    assert urls(LIST) == 0
    fetched = read_manifest(tmp_path / "out")
    assert fetched.facts(tmp_path / "out")[0].endswith(
        "each with its reason in manifest.json; no site was asked for opt-outs"
    )
    assert [(row.name, row.words, row.person, row.licence) for row in fetched.references] == [
        ("tom", "a cat", "Tom", "Unsplash")
    ]
    assert (tmp_path / "out" / "tom.png").read_bytes() == read("cat")
    reasons = {row.name.rpartition("/")[2]: row.reason for row in fetched.left_out}
    assert len(fetched.left_out) == 8
    assert reasons["404"].startswith("http_404") and reasons["html"].startswith("not_an_image")
    assert "refused_address" in reasons["inside"] and "link-local" in reasons["inside"]
    assert reasons["passwd"].startswith("refused_scheme")
    assert reasons["picture"].startswith("cannot be read"), "an image by its first bytes alone"
    assert reasons["rocket"] == "its name is taken: tom"


def asked_for(web):
    paths = [path for path, _ in web.seen]
    web.seen.clear()
    return paths


TWO = "url\nhttp://photos.test/cat\nhttp://photos.test/rocket\n"


def test_what_is_here_is_not_fetched_again(urls, web, tmp_path):
    assert urls(TWO + "http://photos.test/404\n") == 0 and len(asked_for(web)) == 3
    before = read_manifest(tmp_path / "out")
    assert urls(TWO + "http://photos.test/404\n") == 0 and asked_for(web) == ["/404"], "what failed is tried again"
    assert read_manifest(tmp_path / "out") == before
    (tmp_path / "out" / before.references[0].file).write_bytes(read("page"))
    assert urls(TWO + "http://photos.test/404\n") == 0 and sorted(asked_for(web)) == ["/404", "/cat"], (
        "that one was changed"
    )
    assert not before.changed(tmp_path / "out") and not (tmp_path / "out" / ".part").exists()


def test_what_an_interrupted_build_has_fetched_is_not_fetched_again(urls, web, tmp_path, monkeypatch):
    plain = building._write

    def stops(item, *more):
        if item.url.endswith("rocket"):
            raise KeyboardInterrupt
        return plain(item, *more)

    monkeypatch.setattr(building, "_write", stops)
    assert urls(TWO) == 130 and sorted(asked_for(web)) == ["/cat", "/rocket"]
    assert read_manifest(tmp_path / "out") is None, "no set yet"
    monkeypatch.setattr(building, "_write", plain)
    assert urls(TWO) == 0 and not asked_for(web)


def test_a_refused_command_leaves_nothing_and_a_set_that_was_there_as_it_was(urls, tmp_path):
    assert urls("http://photos.test/404\n") == 2 and not (tmp_path / "out").exists()
    assert urls(TWO) == 0
    before = {file: file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file()}
    for file in before:
        if file.suffix == ".png":
            file.unlink()
    assert urls("http://photos.test/404\n") == 2, "of what the list names now there is nothing"
    left = {file: file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file()}
    assert left.items() <= before.items() and "manifest.json" in {file.name for file in left}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.jpg").write_bytes(read("cat"))
    command = ["references", "folder", str(tmp_path / "out"), "--out", str(tmp_path / "mine")]
    assert main(command) == 2 and [file.name for file in (tmp_path / "mine").iterdir()] == ["a.jpg"]


def test_a_private_address_is_refused_by_the_command(tmp_path, capsys):
    with serving(Photos) as web:
        (tmp_path / "list.txt").write_text(f"# mine\n\nhttp://127.0.0.1:{web.server_port}/cat\n")
        assert main(["references", "urls", str(tmp_path / "list.txt"), "--out", str(tmp_path / "out")]) == 2
        assert not web.seen
    told = " ".join(capsys.readouterr().err.split())
    assert "holds 0 photos, none to be a reference" in told and "refused_address" in told and "fetch." not in told
    for name, text in {"list.txt": "# nothing\n", "empty.csv": ""}.items():
        (tmp_path / name).write_text(text)
        assert main(["references", "urls", str(tmp_path / name), "--out", str(tmp_path / "out")]) == 2
        assert "holds no URL" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("link,name\nhttp://photos.test/cat,tom\n", "names no column `url`, but 'link,name': name them"),
        ("url;name\nhttp://photos.test/cat;tom\n", "names no column `url`, but 'url;name'"),
        ("http://photos.test/cat,tom\n", "names no column `url`, but 'http://photos.test/cat,tom'"),
        ("URL , Name\nhttp://photos.test/cat,tom\n", ""),
        ('"url","name"\nhttp://photos.test/cat,tom\n', ""),
    ],
)
def test_a_list_whose_columns_have_no_name(urls, tmp_path, capsys, text, words):
    assert urls(text) == (2 if words else 0)
    assert words in " ".join(capsys.readouterr().err.split())
    assert words or [row.name for row in read_manifest(tmp_path / "out").references] == ["tom"]


def image(data):
    return {"bytes": data, "path": None}


def test_multiid_bench_as_parquet_and_as_folders(tmp_path, capsys):
    one, other = read("astronaut"), read("cat")
    rows = {
        "ID": ["a1", "b2"], "GT": [image(other), image(one)], "input_images": [[image(one)], [image(one), image(other)]],
        "prompt": ["a woman\nin orange", "two"], "task_type": ["", ""], "num_persons": [1, 2],
    }  # fmt: skip
    (tmp_path / "page" / "data").mkdir(parents=True)
    pq.write_table(pa.table(rows), tmp_path / "page" / "data" / "train-00000-of-00001.parquet")
    for name, photos in (("a1", [one]), ("b2", [one, other])):
        (tmp_path / "laid" / name).mkdir(parents=True)
        (tmp_path / "laid" / name / "ori.jpg").write_bytes(other)
        (tmp_path / "laid" / name / "meta.json").write_text(json.dumps({"prompt": "a woman in orange"}))
        for number, photo in enumerate(photos, 1):
            (tmp_path / "laid" / name / f"ref_{number}.jpg").write_bytes(photo)
    for name in ("c3", "without-meta"):
        (tmp_path / "laid" / name).mkdir()
    (tmp_path / "laid" / "c3" / "meta.json").write_text("[]")
    for place in ("page", "laid"):
        out = tmp_path / f"out-{place}"
        assert main(["references", "multiid", str(tmp_path / place), "--out", str(out)]) == 0
        (reference,) = open_references(out)
        assert reference.name == "a1" and reference.words == "a woman in orange"
        assert reference.file.read_bytes() == one and reference.target.read_bytes() == other
        assert "2 people: only entries with one are taken" in {row.reason for row in read_manifest(out).left_out}
        assert read_manifest(out).references[0].licence == "multiid-2m"
    assert {row.name: row.reason.partition(":")[0] for row in read_manifest(tmp_path / "out-laid").left_out} == {
        "b2": "2 people", "c3": "meta.json is no JSON with a `prompt`", "without-meta": "meta.json cannot be read"
    }  # fmt: skip
    capsys.readouterr()
    (tmp_path / "empty").mkdir()
    assert main(["references", "multiid", str(tmp_path / "empty"), "--out", str(tmp_path / "x")]) == 2
    assert "is no MultiID-Bench" in " ".join(capsys.readouterr().err.split())


def test_a_folder_for_each_person_gives_a_reference_and_another_photo(sets, tmp_path, capsys):
    people = tmp_path / "people"
    for person, photos in {"Biden": [sets.copies], "Obama": [sets.copies, sets.targets]}.items():
        (people / person).mkdir(parents=True)
        for number, folder in enumerate(photos, 1):
            shutil.copy(folder / f"{person.lower()}.jpg", people / person / f"{number}.jpg")
    out = tmp_path / "out"
    assert main(["references", "folder", str(people), "--out", str(out), "--licence", "press"]) == 0
    assert [(item.name, item.target is not None) for item in open_references(out)] == [
        ("Biden", False),
        ("Obama", True),
    ]
    assert {(row.person, row.licence) for row in read_manifest(out).references} == {
        ("Biden", "press"),
        ("Obama", "press"),
    }
    shutil.copy(sets.targets / "obama.jpg", people / "flat.jpg")
    assert main(["references", "folder", str(people), "--out", str(tmp_path / "other")]) == 2
    assert "photos beside them, e.g. flat.jpg" in " ".join(capsys.readouterr().err.split())


def test_a_flat_folder_keeps_captions_and_targets(sets, tmp_path):
    out = tmp_path / "out"
    assert main(["references", "folder", str(sets.references), "--out", str(out)]) == 0
    assert [(item.name, item.target is not None) for item in open_references(out)] == [
        ("biden", False),
        ("obama", True),
    ]


def test_what_is_no_reference_of_a_folder_is_listed(sets, tmp_path, capsys):
    flat = shutil.copytree(sets.references, tmp_path / "flat")
    people = tmp_path / "people"
    (people / "obama" / "more").mkdir(parents=True)
    (people / "ben").mkdir()
    for folder in (flat, flat / "targets", people / "obama"):
        (folder / "anna.HEIC").write_bytes(b"")
    for file in (people / "obama" / "1.jpg", people / "obama" / "more" / "2.jpg", people / "targets" / "3.jpg"):
        file.parent.mkdir(exist_ok=True)
        shutil.copy(sets.copies / "obama.jpg", file)
    (flat / "notes.txt").write_text("a person")
    left = {}
    for name in ("flat", "people"):
        assert (
            main(["references", "folder", str(tmp_path / name), "--out", str(tmp_path / f"of-{name}"), "--count", "1"])
            == 0
        )
        left[name] = {row.name: row.reason for row in read_manifest(tmp_path / f"of-{name}").left_out}
    assert left["flat"].keys() == {"anna.HEIC", "targets/anna.HEIC"}
    assert left["people"].keys() == {"obama/anna.HEIC", "obama/more/2.jpg", "targets/3.jpg", "ben"}
    assert left["flat"]["anna.HEIC"] == "its format is not read: photos are .jpeg, .jpg, .png, .webp"
    assert "its format is not read" in " ".join(capsys.readouterr().err.split())
    told = head_of(open_references(flat), [], flat).facts
    assert "NOT READ of the references' folder: 2 files of other formats, e.g. anna.HEIC" in told


@pytest.mark.parametrize("kind", ["folder", "multiid", "urls", "shards"])
def test_a_source_that_is_not_there(tmp_path, capsys, kind):
    assert main(["references", kind, str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert f"{tmp_path / 'none'}: " in told and not (tmp_path / "out").exists()
    assert ("no such folder" in told) is (kind in ("folder", "multiid"))


def test_the_head_of_a_table_says_where_references_are_from_and_what_was_changed(sets, tmp_path):
    folder = tmp_path / "out"
    assert main(["references", "folder", str(sets.references), "--out", str(folder)]) == 0
    told = "\n".join(head_of(open_references(folder), [], folder).lines([]))
    assert "- references of folder" in told and "- leakage: not checked" in told
    assert "- people: not said of 2 references" in told and "CHANGED" not in told
    shutil.copy(sets.swapped / "obama.jpg", folder / "obama.jpg")
    assert "CHANGED since the set was built: 1 files, e.g. obama.jpg" in "\n".join(head_of([], [], folder).lines([]))
    manifest = read_manifest(folder)
    manifest.complete = False
    manifest.write(folder)
    with pytest.raises(SetError, match="not finished"):
        open_references(folder)


def test_how_many_people_stand_behind_a_number_is_said_where_it_is_known(sets, tmp_path, monkeypatch):
    monkeypatch.delenv("FACEMAKEUP_WEIGHTS", raising=False)
    (tmp_path / "people").mkdir()
    for person in ("biden", "obama"):
        (tmp_path / "people" / person).mkdir()
        shutil.copy(sets.copies / f"{person}.jpg", tmp_path / "people" / person / "1.jpg")
    folder, out = tmp_path / "references", tmp_path / "out"
    assert main(["references", "folder", str(tmp_path / "people"), "--out", str(folder)]) == 0
    assert main(["score", str(folder), f"mine={sets.copies}", f"targets={sets.targets}", "--out", str(out)]) == 0
    table = (out / "table.md").read_text()
    assert "- people: 2" in table and "| FaceSim, dlib | sound | 1.000 [-0.315, 1.000] N=2 of 2 people" in table
    assert "N=1 of 1 person, 1 left out" in table and "of 2 people" in (out / "table.tex").read_text()
