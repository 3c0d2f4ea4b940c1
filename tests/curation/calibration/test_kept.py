"""The kept set: shares by picture and by motif, kinds of error, thresholds chosen on the other half."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from common.decode import ImageLimits
from curation.calibration.calibrate import choose_all
from curation.calibration.kept import Kept, Share, configurations, cross_fitted, kind_of, print_kept
from curation.calibration.labels import Labelled
from curation.filters.base import Machine
from curation.filters.drawing import CLASSES, Drawing
from curation.filters.grayscale import Grayscale
from curation.filters.registry import Thresholds

EMPTY = {"package": "", "colour": "colour", "text": "none", "faces": "1", "drawing": "photo", "keep": "1", "note": ""}


def test_pictures_of_one_motif_tell_less_than_as_many_motifs():
    hits, counts = np.ones(40, bool), np.ones(40, bool)
    alone = Share.of(hits, counts, np.arange(40))
    together = Share.of(hits, counts, np.repeat(np.arange(4), 10))
    assert alone.by_picture == alone.by_motif == together.by_picture
    assert together.by_motif.of == 4 and str(together) == ">= 0.912 (motifs 0.51), <= 1.000; 40/40"
    uneven = Share.of(hits, counts, np.array([0] * 37 + [1, 2, 3]))
    assert uneven.by_motif.of == 1, "one motif has nearly all"
    assert str(Share.of(hits, ~counts, np.arange(40))) == "-"


def test_precision_and_recall_are_of_the_kept():
    kept, good = np.array([1, 1, 1, 0, 0], bool), np.array([1, 1, 0, 1, 0], bool)
    quality = Kept.of(kept, good, np.ones(5, bool), np.arange(5))
    assert (quality.precision.by_picture.hits, quality.precision.by_picture.of) == (2, 3)
    assert (quality.recall.by_picture.hits, quality.recall.by_picture.of) == (2, 3)


@pytest.mark.parametrize(
    ("label", "kind"),
    [
        ({"drawing": "cartoon", "text": "much"}, "drawing"),
        ({"colour": "partial"}, "toned"),
        ({"colour": "grey"}, "grey"),
        ({"text": "much", "faces": "3"}, "text"),
        ({"faces": "2"}, "faces"),
        ({"faces": ""}, "other"),
    ],
)
def test_kinds_of_error(label, kind):
    assert kind_of({**EMPTY, **label}) == kind


@pytest.fixture
def world() -> tuple[Labelled, dict]:
    """Forty pictures: in the one half drawings look drawn from 0.1 on, in the other from 0.5."""
    filters = {
        "grayscale": Grayscale(Grayscale.Settings(), Machine(ImageLimits())),
        "drawing": Drawing.of_description({}),
    }
    labels, rows = [], []
    for number in range(40):
        half, drawn = ("choose", "report")[number % 2], number % 4 > 1
        value = (0.12 if drawn else 0.02) if half == "choose" else (0.8 if drawn else 0.25)
        kind = {"drawing": "cartoon", "keep": "0"} if drawn else {}
        labels.append({**EMPTY, **kind, "motif": str(number // 4), "half": half, "file": f"{number}", "doubtful": ""})
        rows.append({"id": "", **dict.fromkeys(CLASSES, 0.0), "drawing": value, "error": None})
    colour = [{"id": "", "std": 30.0, "error": None}] * 40
    evidence = {
        "grayscale": pa.Table.from_pylist(colour, schema=filters["grayscale"].schema),
        "drawing": pa.Table.from_pylist(rows, schema=filters["drawing"].schema),
    }
    return Labelled(labels, evidence), filters


def test_each_half_is_judged_by_what_the_other_one_chose(world):
    labelled, filters = world
    paper, recipe, without = configurations(filters, Thresholds())
    assert [one.title.strip() for one in (paper, recipe, without)] == [
        "the paper's filters", "the recipe", "without drawing"
    ]  # fmt: skip
    assert list(paper.filters) == list(without.filters) == ["grayscale"] and paper.keeps(labelled).all()
    kept = cross_fitted(labelled, recipe, choose_all)
    choosing = labelled.choosing
    assert kept[choosing].all(), "the other half chose a high threshold: nothing here is above it"
    assert not kept[~choosing].any(), "and a low one for that half"


def test_doubtful_ones_are_counted_both_ways_and_kinds_are_told(world):
    labelled, filters = world
    labelled.labels[1]["doubtful"] = "1"  # a good one of the half that is reported
    out = io.StringIO()
    print_kept(labelled, configurations(filters, Thresholds())[:1], choose_all, Console(file=out, width=160))
    lines = [line for line in out.getvalue().splitlines() if "half not chosen on" in line]
    assert [line.split("│")[4].split(";")[1].strip() for line in lines[:3]] == ["9/19", "10/20", "9/20"]
    assert "10/10" in lines[3], "drawings kept, of those there are"


def test_pictures_that_were_made_are_told_apart_from_photos_in_folders(world):
    labelled, filters = world
    for label in labelled.labels:
        label["file"] = f"{label['motif']}/a.jpg"
    printed = {}
    for made in (False, True):
        for label in labelled.labels[20:]:
            label |= {"made": "1"} if made else {}
        out = io.StringIO()
        print_kept(labelled, configurations(filters, Thresholds())[:1], choose_all, Console(file=out, width=160))
        printed[made] = out.getvalue()
    assert "as found" not in printed[False] and "of both, as found" in printed[True]
