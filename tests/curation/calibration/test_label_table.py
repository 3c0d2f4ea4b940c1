"""Tables of labels: what is read alike from every kind of file, and what each mistake is told."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.calibration.label_table import LabelError, read_labels

ROWS = [
    {"file": "a.jpg", "colour": "grey", "faces": 2, "keep": False},
    {"file": "süß/b, c.jpg", "colour": None, "faces": None, "keep": True},
]
CSV = 'file,colour,faces,keep\na.jpg,grey,2,0\n"süß/b, c.jpg",,,1\n'


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("labels.csv", CSV.encode()),
        ("LABELS [v2]*.CSV", CSV.replace("\n", "\r\n").encode("utf-8-sig")),
        ("blank lines.csv", CSV.replace("\n", "\n\n,,,\n").encode()),
        ("labels.jsonl", "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS).encode()),
        ("labels.parquet", None),
    ],
)
def test_every_kind_of_file_is_read_alike(tmp_path, name, data):
    path = tmp_path / name
    if data is None:
        # as pandas writes it: whole numbers with a gap are floats
        columns = {key: [row[key] for row in ROWS] for key in ROWS[0]} | {"faces": [2.0, float("nan")]}
        pq.write_table(pa.table(columns), path)
    else:
        path.write_bytes(data)
    first, second = read_labels(path, "file")
    assert (first["file"], first["colour"], first["faces"], first["keep"]) == ("a.jpg", "grey", "2", "0")
    assert (second["file"], second["colour"], second["faces"], second["keep"]) == ("süß/b, c.jpg", "", "", "1")
    assert first["drawing"] == first["note"] == "", "a column that is not there says nothing"


WRONG = {
    "nothing": (b"", "labels.csv: holds no label. Give it a row a photo, with the columns file, keep, colour"),
    "no row": (b"file,colour\n", "holds no label"),
    "empty rows": (b"file,colour\n,\n", "holds no label"),
    "another column": (b"file,color\na.jpg,grey\n", "'color' is no column of labels; did you mean 'colour'?"),
    "semicolons": (b"file;colour\na.jpg;grey\n", "(a comma between them)"),
    "a column twice": (b"file,colour,colour\na.jpg,grey,grey\n", "has two columns 'colour'"),
    "no labels": (b"file,note\na.jpg,x\n", "has no column of labels: add one or more of keep, colour"),
    "another word": (
        b"file,colour\na.jpg,gray\n",
        "line 2: colour: 'gray' is no label; did you mean 'grey'? It is one of",
    ),
    "no number": (b"file,faces\na.jpg,-1\n", "line 2: faces: '-1' is no whole number"),
    "no name": (b"file,colour\n,grey\n", "line 2: file: is empty"),
    "no names": (b"id,colour\n1,grey\n", "line 2: file: is empty"),
    "twice": (b"file,colour\na.jpg,grey\na.jpg,colour\n", "line 3: file: 'a.jpg' has a row before (line 2)"),
    "a bare comma": (b"file,colour\nb, c.jpg,grey\n", "line 2: 3 fields under 2 columns: put quotes around"),
    "an open quote": (b'file,colour\n"a.jpg,grey\nb.jpg,grey\n', "cannot be read as what its name ends in"),
    "latin-1": ("file,colour\nsüß.jpg,grey\n".encode("latin-1"), "is not UTF-8 (byte 13): save it as UTF-8"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_mistake_is_told_with_file_field_and_remedy(tmp_path, mistake):
    data, words = WRONG[mistake]
    path = tmp_path / "labels.csv"
    path.write_bytes(data)
    with pytest.raises(LabelError) as told:
        read_labels(path, "file")
    assert words in str(told.value) and str(path) in str(told.value)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("labels.jsonl", b'["a.jpg"]\n', "line 1: is no row"),
        ("labels.jsonl", b'{"file": "a.jpg", "colour"\n', "cannot be read as what its name ends in"),
        ("labels.jsonl", b'{"file": "a.jpg", "color": 1}\n', "did you mean 'colour'?"),
        ("labels.parquet", CSV.encode(), "cannot be read as what its name ends in"),
        ("labels.xlsx", b"PK", "a table of labels ends in .csv, .jsonl or .parquet"),
        ("labels.csv", None, "no such table of labels: correct --labels"),
    ],
)
def test_a_file_that_is_no_table_is_told(tmp_path, name, data, words):
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(LabelError, match="labels") as told:
        read_labels(tmp_path / name, "file")
    assert words in str(told.value)


def test_photos_that_were_forgotten_are_asked_for(tmp_path):
    for column, wanted in (("file", "--photos FOLDER"), ("id", "the RUN")):
        (tmp_path / "labels.csv").write_text(f"{column},keep\na,1\n")
        with pytest.raises(LabelError, match=wanted):
            read_labels(tmp_path / "labels.csv", "sha256")
