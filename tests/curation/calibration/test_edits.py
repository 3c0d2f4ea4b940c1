"""The edited pictures: what the table says can be made, the same bytes each time, no motif in both halves."""

from __future__ import annotations

import csv
import io
from collections import defaultdict

import numpy as np
import pytest
from PIL import Image

from curation.calibration.edits.base import EDITS, Others, Portrait
from curation.calibration.edits.make import Maker, base_photos, drawings
from curation.calibration.label_table import read_labels
from curation.sample.photos import photos
from tests.world import ROOT

LABELS = ROOT / "tests" / "labels"


@pytest.fixture(scope="module")
def labels() -> dict[str, list[dict[str, str]]]:
    return {
        "photos": read_labels(LABELS / "sample-photos.csv", "sha256"),
        "edits": read_labels(LABELS / "sample-edits.csv", "file"),
    }


def test_every_row_names_an_edit_of_a_photo_that_is_edited(labels):
    portraits, drawn = ({row["motif"] for row in rows(labels["photos"])} for rows in (base_photos, drawings))
    for row in labels["edits"]:
        motif, edit = row["file"].removesuffix(".jpg").split("/")
        assert motif == row["motif"] and motif in (drawn if EDITS[edit][0] == "drawing" else portraits)
    assert {row["file"].split("/")[1].removesuffix(".jpg") for row in labels["edits"]} == set(EDITS)


def test_no_motif_is_in_both_halves(labels):
    halves = defaultdict(set)
    for row in (*labels["photos"], *labels["edits"]):
        halves[row["motif"]].add(row["half"])
    assert all(len(found) == 1 and found < {"choose", "report"} for found in halves.values())


def test_enough_are_to_be_kept_in_either_half(labels):
    sure = [row for row in labels["edits"] if row["keep"] == "1" and not row["doubtful"]]
    assert len(sure) >= 300
    assert sum(row["half"] == "report" for row in sure) >= 150


def test_an_edit_depends_on_its_motif_and_its_name_alone():
    """Each edit of a made-up portrait, twice: the same pixels, whatever was drawn before; and it is not the portrait."""
    draw = np.random.default_rng(0)

    def face(number: int) -> Portrait:
        values = draw.integers(40, 200, (12, 16, 3)).astype(np.uint8)
        return Portrait(
            str(number), Image.fromarray(values).resize((160, 120), Image.Resampling.BICUBIC), (50, 30, 90, 80)
        )

    one, other = face(1), face(2)
    scenes = (Image.new("RGB", (90, 60), (10, 200, 30)),)
    others = Others((one, other), scenes, scenes)
    for name, (_, function) in EDITS.items():
        first, again = (np.asarray(function(one, np.random.default_rng(5), others)) for _ in range(2))
        assert np.array_equal(first, again), name
        assert first.shape != (180, 240, 3) or not np.array_equal(first, np.asarray(one.image)), name


def test_the_maker_takes_others_from_the_same_half_only(labels):
    maker = Maker(photos(), labels["photos"])
    motif = next(row["motif"] for row in base_photos(labels["photos"]) if row["half"] == "report")
    data = maker(motif, "side-by-side")
    assert data == Maker(photos(), labels["photos"])(motif, "side-by-side")
    assert Image.open(io.BytesIO(data)).size == (640, 360)
    used = {portrait.motif for portrait in maker.others("report").portraits}
    with open(LABELS / "sample-photos.csv", newline="") as file:
        assert used <= {row["motif"] for row in csv.DictReader(file) if row["half"] == "report"}
