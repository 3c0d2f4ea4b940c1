"""`python -m curation label`: what is wrong is said before a page is opened."""

from __future__ import annotations

import pytest

from curation.__main__ import build_parser, main
from curation.labelling.label import open_labelling


@pytest.fixture
def folder(tmp_path):
    for name in ("b.jpg", "a/1.jpg", "a/2.jpg", ".hidden"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(b"x")
    return tmp_path / "photos"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "whose photos? Give --photos FOLDER"),
        (["--photos", "{}/none"], "no such folder of photos"),
        (["--photos", "{}", "--labels", "{}/l.parquet"], "the page writes .csv"),
        (["--photos", "{}", "--ask", "keep,colors"], "--ask colors: is no column of labels"),
        (["--photos", "{}", "--count", "0"], "--count 0 (COUNT=...): give 1 or more"),
        (["--photos", "{}", "--count", "-2"], "--count -2 (COUNT=...): give 1 or more"),
        (["--photos", "{}", "--labels", "{}/l.csv", "--beside", "{}/l.csv"], "is your own table"),
        (["--photos", "{}", "--labels", "{}/l.csv", "--beside", "{}/ben.csv"], "holds no answer to what is asked"),
        (["--photos", "{}", "--set", "thresholds.text.max_are=1"], "did you mean `max_area`"),
    ],
)
def test_a_mistake_is_one_message(folder, capsys, options, words):
    assert main(["label", *(option.format(folder) for option in options)]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert words in said and "Traceback" not in said


def opened(folder, *options):
    return open_labelling(build_parser().parse_args(["label", "--photos", str(folder), *options]))


def test_tables_in_the_folder_are_no_photos_and_a_choice_stays_the_same(folder):
    (folder / "anna.csv").write_text("file,keep\na/1.jpg,1\ngone.jpg,0\n")
    (folder / "ben.csv").write_text("file,keep\na/1.jpg,0\n")
    tables = ["--labels", str(folder / "anna.csv"), "--beside", str(folder / "ben.csv")]
    labelling = opened(folder, *tables)
    assert labelling.names == ["a/1.jpg", "a/2.jpg", "b.jpg"] and labelling.apart() == {"a/1.jpg"}
    two = opened(folder, *tables, "--count", "2").names
    assert len(two) == 2 and two == opened(folder, *tables, "--count", "2").names
    assert opened(folder, *tables, "--count", "9").names == labelling.names
