"""Scores x thresholds -> verdicts."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from curation.cutting.judge import judge, verdict_table
from curation.filters.caption_box import CaptionBoxes, choose_faces, iou
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
    corners = np.array(boxes, np.float64).reshape(-1, 4)
    result = judge(evidence(filters, [row]), filters, Thresholds(), CaptionBoxes(np.zeros(len(corners), int), corners))
    return row_of(result, "ok")


def row_of(result, status):
    unit = pa.array(["00-00000"]).dictionary_encode()
    return verdict_table(pa.array(["0"]), unit, pa.array([status]), result, np.array([False])).to_pylist()[0]


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
    row = row_of(judge(evidence(filters, [{}]), filters, Thresholds(), CaptionBoxes.none()), "truncated")
    assert (row["verdict"], row["reason"]) == ("undecodable", "truncated")


def test_a_score_written_twice_counts_once(filters):
    schema = filters["grayscale"].schema
    twice = pa.Table.from_pylist([{"id": "a", "std": 3.0, "error": None}] * 2, schema=schema)
    aligned = Evidence.align(schema, ["b", "a"], twice)
    assert aligned.seen.tolist() == [False, True]
    assert aligned.table["std"].to_pylist() == [None, 3.0]


def test_iou():
    a = np.array([[0, 0, 10, 10]] * 3, float)
    b = np.array([[0, 0, 10, 10], [10, 0, 20, 10], [5, 0, 15, 10]], float)
    assert iou(a, b) == pytest.approx([1, 0, 1 / 3])


def chosen_one_by_one(faces, boxes):
    """What the choice says, written as it is read: of one image's (place, box) of prominent faces, and its boxes."""
    best, face, caption = 0.0, faces[0][0] if faces else -1, -1
    for place, found in faces:
        for number, box in enumerate(boxes):
            overlap = iou(np.array([found]), np.array([box]))[0]
            if overlap > best:
                best, face, caption = overlap, place, number
    return face, caption, best


def test_the_choice_among_many_images_is_the_choice_in_each(filters):
    draw = np.random.default_rng(0)

    def box():
        corner, size = draw.integers(0, 6, 2) * 10.0, draw.integers(2, 6, 2) * 10.0
        return [*corner, *(corner + size)]

    faces = [
        [{"box": box(), "score": 0.9, "landmarks": [0.0] * 10} for _ in range(draw.integers(0, 4))] for _ in range(200)
    ]
    stored = [[box() for _ in range(draw.integers(0, 4))] for _ in faces]
    table = evidence(filters, [{"faces": each} for each in faces])["faces"].table
    rows = np.repeat(np.arange(len(stored)), [len(each) for each in stored])
    boxes = CaptionBoxes(rows, np.array([one for each in stored for one in each]))
    thresholds = Thresholds().faces.model_copy(update={"min_relative_area": 0.0})
    chosen = choose_faces(table, thresholds, filters["faces"].detector, boxes)
    ours = list(zip(chosen.face.tolist(), chosen.caption_face.tolist(), chosen.overlap.tolist(), strict=True))
    assert ours == [
        chosen_one_by_one([(place, face["box"]) for place, face in enumerate(found)], captioned)
        for found, captioned in zip(faces, stored, strict=True)
    ]
    some = np.flatnonzero(draw.random(len(faces)) < 0.3)
    part = choose_faces(table.take(pa.array(some)), thresholds, filters["faces"].detector, boxes.take(some))
    assert part.face.tolist() == chosen.face[some].tolist() and part.overlap.tolist() == chosen.overlap[some].tolist()
