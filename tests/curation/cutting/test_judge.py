"""Scores x thresholds -> verdicts."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from curation.cutting.judge import judge, verdict_table
from curation.filters.caption_box import iou
from curation.filters.evidence import Evidence
from curation.filters.registry import Thresholds
from curation.recipe import recipe as recipes

FACE = {"box": [10.0, 10.0, 110.0, 110.0], "score": 0.9, "landmarks": [0.0] * 10}
SMALL = {"box": [200.0, 10.0, 220.0, 30.0], "score": 0.9, "landmarks": [0.0] * 10}
OTHER = {"box": [200.0, 10.0, 290.0, 100.0], "score": 0.95, "landmarks": [0.0] * 10}
TEXT = {"score": 0.9, "quad": [0.1, 0.1, 0.9, 0.1, 0.9, 0.2, 0.1, 0.2]}


@pytest.fixture(scope="module")
def filters():
    return recipes.load("curation/recipe/sample.yaml").open_filters()


def evidence(filters, rows):
    """`rows`: a dict a picture, of what was scored: std, text, faces, hits."""
    columns = {
        "grayscale": ("std", "std"),
        "text": ("boxes", "text"),
        "faces": ("boxes", "faces"),
        "anime": ("hits", "hits"),
    }
    found = {}
    for name, (column, key) in columns.items():
        scored = [
            {"id": str(i), column: row.get(key), "error": row.get("error", {}).get(name)}
            for i, row in enumerate(rows)
            if key in row or name in row.get("error", {})
        ]
        table = pa.Table.from_pylist(scored, schema=filters[name].schema)
        found[name] = Evidence.align(filters[name].schema, [str(i) for i in range(len(rows))], table)
    return found


GOOD = {"std": 40.0, "text": [], "faces": [FACE], "hits": []}


def judged(filters, row, boxes=((10, 10, 110, 110),)):
    result = judge(evidence(filters, [row]), filters, Thresholds(), [[list(box) for box in boxes]])
    return verdict_table(["0"], "00-00000", ["ok"], result, [False]).to_pylist()[0]


def test_kept_only_when_every_check_passes(filters):
    assert judged(filters, GOOD)["verdict"] == "kept"
    for key in ("std", "text", "faces", "hits"):
        lacking = {name: value for name, value in GOOD.items() if name != key}
        row = judged(filters, lacking)
        assert row["verdict"] == "undecided" and row["reason"] is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"std": 0.1}, "grayscale"),
        ({"text": [TEXT]}, "text"),
        ({"faces": []}, "faces"),
        ({"faces": [OTHER, FACE]}, "faces"),
        ({"hits": [{"box": [0.0, 0.0, 50.0, 50.0], "neighbors": 200}]}, "anime"),
        ({"std": 0.1, "text": [TEXT], "faces": []}, "grayscale"),
        ({"error": {"text": "it broke"}, "text": None}, "text_error"),
    ],
)
def test_the_reason_is_the_first_failing_check_of_the_paper(filters, change, reason):
    row = judged(filters, {**GOOD, **change})
    assert (row["verdict"], row["reason"]) == ("rejected", reason)


def test_one_failing_score_decides_without_the_others(filters):
    row = judged(filters, {"faces": []})
    assert row["verdict"] == "rejected" and row["failing"] == ["faces"] and row["grayscale"] == -1


def test_a_small_face_in_the_background_does_not_count(filters):
    assert judged(filters, {**GOOD, "faces": [FACE, SMALL]})["verdict"] == "kept"


def test_the_face_must_be_the_captioned_one(filters):
    far = judged(filters, GOOD, boxes=[(300, 300, 400, 400)])
    assert (far["reason"], far["caption_face"]) == ("caption_box", -1)
    second = judged(filters, GOOD, boxes=[(300, 300, 400, 400), (12, 12, 108, 112)])
    assert (second["verdict"], second["face"], second["caption_face"]) == ("kept", 0, 1)


def test_an_undecodable_image_says_why(filters):
    result = judge(evidence(filters, [{}]), filters, Thresholds(), [[]])
    row = verdict_table(["0"], "00-00000", ["truncated"], result, [False]).to_pylist()[0]
    assert (row["verdict"], row["reason"]) == ("undecodable", "truncated")


def test_a_score_written_twice_counts_once(filters):
    schema = filters["grayscale"].schema
    twice = pa.Table.from_pylist([{"id": "a", "std": 3.0, "error": None}] * 2, schema=schema)
    aligned = Evidence.align(schema, ["b", "a"], twice)
    assert aligned.seen.tolist() == [False, True]
    assert aligned.table["std"].to_pylist() == [None, 3.0]


def test_iou():
    assert iou([0, 0, 10, 10], [0, 0, 10, 10]) == 1
    assert iou([0, 0, 10, 10], [10, 0, 20, 10]) == 0
    assert np.isclose(iou([0, 0, 10, 10], [5, 0, 15, 10]), 1 / 3)
