"""In the table: what a method fails on counts as each figure says; what could not be drawn at all has its reason in every cell."""

from __future__ import annotations

import csv
import json
from typing import ClassVar

import pytest
from PIL import Image

from evaluation.asked import Asked, Prompt
from evaluation.command import ScoreOptions, score_methods
from evaluation.methods.drawing import pictures_by
from evaluation.methods.folder import references_themselves
from evaluation.methods.sources import MethodSources
from evaluation.sets import open_references
from generation.photos import read_photo
from tests.evaluation.methods.made import Made

ASKED = Asked((Prompt("snow", "a person in the snow"),), ("42",))


class Copies(Made):
    """Draws the reference itself, but nothing of a photo of one shape."""

    title = "Copies"
    refused: ClassVar[tuple[int, ...]]

    def prepare(self, photos):
        if photos[0].shape == self.refused:
            raise ValueError("the face is turned too far")
        return photos[0]

    def draw(self, face, prompt, seed):
        return Image.fromarray(face)


class Gone(Made):
    name, title = "gone", "Gone"


def test_a_failure_counts_and_an_absent_method_has_its_reason_in_every_cell(sets, tmp_path, capsys):
    references = open_references(sets.references)
    (tmp_path / "adapter.bin").write_bytes(b"weights")
    sources = MethodSources(named={"made.adapter": str(tmp_path / "adapter.bin")}, device="cpu", dtype="fp32")
    Copies.refused = read_photo(sets.references / "obama.jpg").shape
    methods = [pictures_by(kind, sources, references, ASKED, tmp_path / "pictures") for kind in (Copies, Gone)]
    methods.append(references_themselves(references, ASKED))
    options = ScoreOptions(str(sets.references), [], str(tmp_path), metrics=["CLIP", "FaceSim, dlib"])
    score_methods(references, methods, options)
    with (tmp_path / "table.csv").open() as file:
        cells = {(row["figure"], row["protocol"], row["method"]): row for row in csv.DictReader(file)}
    similarity = cells["FaceSim, dlib", "sound", "Copies"]
    assert float(similarity["value"]) == pytest.approx(0.5) and similarity["references"] == "2", (
        "nothing drawn counts 0"
    )
    found = cells["FaceSim, dlib, faces only", "sound", "Copies"]
    assert float(found["value"]) == pytest.approx(1) and (found["references"], found["left_out"]) == ("1", "1")
    assert "Copies: obama: the face is turned too far" in " ".join(capsys.readouterr().err.split())
    gone = [row for (_, _, method), row in cells.items() if method == "Gone"]
    assert gone and all(
        row["why"].startswith("not drawn: not here: adapter. Name them") and not row["value"] for row in gone
    )
    assert {row["method"] for row in cells.values() if not row["value"] and not row["why"]} == set(), "no empty cell"
    text, page = (tmp_path / "table.md").read_text(), (tmp_path / "report.html").read_text()
    assert text.count("`hf download someone/adapter adapter.bin`") == 1, "the head says it, once for all figures"
    assert "Gone: not drawn: not here" in page and json.dumps(["Copies", "the references"]) in page
