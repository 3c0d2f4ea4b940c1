"""Photos of one's own, labelled: found by the path in their folder, scored in this process, each loss said."""

from __future__ import annotations

import unicodedata
from types import SimpleNamespace

import pytest

from curation.__main__ import main
from curation.calibration import labels as module
from curation.calibration.labels import find_photos, photos_of_folder, photos_of_run, score_photos
from curation.filters.base import Machine
from curation.filters.grayscale import Grayscale
from curation.recipe import recipe as recipes
from tests.curation import fake_run
from tests.curation.fake_images import picture

GREY = (0, 1, 2, 14)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Sixteen portraits, under names that patterns, shells and spreadsheets would read otherwise."""
    monkeypatch.setenv("FACEMAKEUP_CACHE", str(tmp_path / "cache"))
    place = tmp_path / "fotos [v2]*"
    for number in range(16):
        path = place / photo_name(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number))
    (place / ".DS_Store").write_bytes(b"")
    return place


def photo_name(number: int) -> str:
    return f"süß {number}.jpg" if number % 2 else f"sub[1]/{number}.jpg"


def rows(*numbers: int) -> str:
    return "".join(f"{photo_name(n)},{'grey' if n in GREY else 'colour'}\n" for n in numbers)


def table(folder, text: str):
    path = folder / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_command_suggests_thresholds_for_photos_of_ones_own(folder, capsys, monkeypatch):
    labels = table(folder, "file,colour\n" + rows(*range(15)) + "broken.jpg,grey\n")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    monkeypatch.setattr(recipes.Recipe, "open_filters", only_grayscale)
    assert main(["calibrate", "--photos", str(folder), "--labels", str(labels)]) == 0
    shown = capsys.readouterr()
    assert "grayscale on the half not chosen on" in shown.out and "1.000" in shown.out and "min_std: " in shown.out
    assert "15 photos" in shown.out, "all that are labelled and can be decoded"
    said = " ".join(shown.err.split())
    assert "1 of " + str(folder) + " have no label and do not count: süß 15.jpg" in said
    assert "1 of the labelled cannot be decoded and do not count: broken.jpg (undecodable: truncated)" in said


def only_grayscale(recipe):
    """It alone loads no model."""
    return {"grayscale": Grayscale(recipe.filters.grayscale, Machine(recipe.images))}


@pytest.mark.parametrize(
    ("arguments", "text", "words"),
    [
        (["--photos", "FOLDER"], "file,colour\nsüss 1.jpg,grey\n", "line 2: file: 'süss 1.jpg' is not in FOLDER; did you "
         "mean 'süß 1.jpg'? Correct the table"),
        (["--photos", "FOLDER"], "file,colour\nx,grey\ny,grey\n", "'x' is not in FOLDER (and 1 others)"),
        (["--photos", "FOLDER/no"], "file,colour\nx,grey\n", "no such folder of photos: correct --photos"),
        ([], "sha256,colour\n0123456789abcdef,grey\n", "is not in the sample (photos of your own: --photos F"),
        (["FOLDER", "--photos", "FOLDER"], "file,colour\nx,grey\n", "give one of them"),
        (["FOLDER"], "id,colour\nx,grey\n", "is no run directory yet"),
    ],
)  # fmt: skip
def test_labels_that_do_not_belong_to_the_photos_are_told(folder, capsys, monkeypatch, arguments, text, words):
    monkeypatch.setattr(module, "photos", lambda: [])
    arguments = [argument.replace("FOLDER", str(folder)) for argument in arguments]
    assert main(["calibrate", *arguments, "--labels", str(table(folder, text))]) == 2
    assert words.replace("FOLDER", str(folder)) in " ".join(capsys.readouterr().err.split())


def test_photos_without_labels_are_refused(folder, capsys):
    assert main(["calibrate", "--photos", str(folder)]) == 2
    assert "need --labels TABLE" in capsys.readouterr().err


def test_letters_with_accents_are_found_in_either_spelling(folder):
    (folder / unicodedata.normalize("NFD", "É.jpg")).write_bytes(picture(3))
    there = photos_of_folder(folder, folder / "labels.csv")
    asked = [{"file": unicodedata.normalize("NFC", "É.jpg"), "where": "line 2"}]
    assert [read() for read in find_photos(asked, "file", there, "here")] == [picture(3)]


def test_a_photo_under_two_names_is_scored_once_and_a_second_call_scores_none(folder, monkeypatch):
    recipe = recipes.load("curation/recipe/sample.yaml")
    filters = only_grayscale(recipe)
    scored, score = [], Grayscale.score
    monkeypatch.setattr(Grayscale, "score", lambda *asked: scored.append(1) or score(*asked))
    reads = [lambda: picture(0), lambda: picture(0), lambda: picture(3)]
    for _ in range(2):
        labelled = score_photos([{"file": name} for name in "abc"], reads, "file", filters, recipe)
        first, copy, other = labelled.evidence["grayscale"]["std"].to_pylist()
        assert first == copy < 1 < other
    assert len(scored) == 2


def test_images_of_a_run_are_named_by_their_id(tmp_path):
    run = fake_run.build(str(tmp_path / "run [1]"))
    there = photos_of_run(run)
    number = 5
    read = find_photos([{"id": fake_run.name(number), "where": "line 2"}], "id", there, run.root)[0]
    assert read() == picture(number)


def test_only_filters_that_lack_evidence_run_with_what_they_need():
    needs = {"grayscale": (), "faces": (), "anime": (), "toned": ("faces",)}
    filters = {name: SimpleNamespace(needs=others) for name, others in needs.items()}
    assert list(module._with_needs(["toned"], filters)) == ["faces", "toned"]
    assert list(module._with_needs(["anime", "grayscale"], filters)) == ["grayscale", "anime"]
