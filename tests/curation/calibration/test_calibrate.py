"""How thresholds are chosen from labelled photos."""

from __future__ import annotations

import argparse
import io

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from curation.calibration.calibrate import calibrate, choose, labelled_photos, middle_of_best, sample_recipe
from curation.calibration.labels import Labelled
from curation.filters.registry import Thresholds
from curation.recipe import recipe as recipes

SAMPLE, CLEAN = (f"curation/recipe/{name}.yaml" for name in ("sample", "facecaptionhq-4m-clean"))


@pytest.fixture(scope="module")
def grayscale():
    return recipes.load("curation/recipe/sample.yaml").open_filters()["grayscale"]


def test_a_threshold_is_put_between_the_two_kinds(grayscale):
    stds = np.array([0.0, 0.2, 0.4, 9.0, 14.0, 20.0, 30.0])
    evidence = pa.table({"std": pa.array(stds, pa.float32())})
    found = choose(grayscale, evidence, stds < 5, np.ones(7, bool), Thresholds())
    setting, thresholds = middle_of_best(found)
    assert found[0][2].mistakes == 0
    # every threshold from 1 to 8 is perfect: the middle one is taken, not the first or the last
    assert setting == {"min_std": thresholds.grayscale.min_std}
    assert 3 <= setting["min_std"] <= 5


def test_the_halves_are_disjoint_and_edits_of_a_photo_do_not_vote():
    recipe = recipes.load("curation/recipe/sample.yaml")
    filters = recipe.open_filters()
    base = {"colour": "colour", "text": "none", "faces": "1", "drawing": "photo", "keep": "1", "note": ""}
    labels = [{**base, "sha256": f"{row:016x}"} for row in range(40)]
    for label in labels[:10]:
        label["note"] = "variant of source.jpg"
    face = {"box": [0.0, 0.0, 50.0, 50.0], "score": 0.9, "landmarks": [0.0] * 10}
    rows = {"grayscale": {"std": 30.0}, "text": {"boxes": []}, "faces": {"boxes": [face]}, "anime": {"hits": []}}
    evidence = {
        name: pa.Table.from_pylist([{"id": "", **row, "error": None}] * 40, schema=filters[name].schema)
        for name, row in rows.items()
    }
    printed = io.StringIO()
    chosen = calibrate(Labelled(labels, evidence), filters, recipe.thresholds, Console(file=printed, width=160))
    assert (
        "40 photos of 40 motifs, 0 doubtful, 10 edits in the sample itself; chosen on 15, reported on 15"
        in printed.getvalue()
    )
    assert ">= 0.796 (motifs 0.80), <= 1.000; 15/15" in printed.getvalue()
    assert isinstance(chosen, Thresholds)


def test_by_default_the_sample_and_its_edits_are_labelled_for_the_clean_recipes_filters():
    options = argparse.Namespace(run=None, photos=None, labels=None, recipe=None, set=[])
    labels, reads, name, recipe = labelled_photos(options)
    assert len(labels) == len(reads) > 1100 and name == "file"
    assert len({label[name] for label in labels}) == len(labels), "no two go by one name"
    assert reads[0]()[:4] == b"\x89PNG", "nothing is read or made before it is asked for"
    clean = recipes.load(CLEAN, ["sources.facecaption=[x]"])
    assert recipe.filters.drawing == clean.filters.drawing is not None
    assert recipe.thresholds == clean.thresholds and recipe.filters.faces.stand_in == "centerface"
    assert sample_recipe(["thresholds.toned.min_residual=3"]).thresholds.toned.min_residual == 3
    assert labelled_photos(argparse.Namespace(**{**vars(options), "recipe": SAMPLE}))[3].filters.drawing is None
