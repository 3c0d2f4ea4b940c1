"""Quality, as scores: each number moves with what it measures, and no image is rejected before a limit is set."""

from __future__ import annotations

import io
import json

import cv2
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from common.decode import Picture, decode
from curation.filters.evidence import FAIL, PASS, UNKNOWN
from curation.filters.faces import largest_face
from curation.filters.quality import NUMBERS, Quality, QualityThresholds, blockiness
from model.conditioning.face_measures import NOSE, evenness, measures_of, yaw_and_roll

HEAD = np.array([[-1, -0.6, 0], [1, -0.6, 0], [0, 0, -2 * NOSE], [-0.7, 0.8, 0], [0.7, 0.8, 0]], float)  # eyes 2 apart


def seen(yaw, roll, tilt=0.0):
    """The five points of a head that is turned by these degrees, from far away: x right, y down, z away."""
    turn = np.eye(3)
    for axis, degrees in enumerate((tilt, -yaw, roll)):
        vector = np.zeros(3)
        vector[axis] = np.radians(degrees)
        turn = cv2.Rodrigues(vector)[0] @ turn
    return (HEAD @ turn.T)[:, :2] * 40 + 100


@pytest.mark.parametrize(("yaw", "roll"), [(0, 0), (20, 0), (-35, 0), (0, 15), (0, -40), (30, 10), (-60, -25)])
def test_yaw_and_roll_are_those_of_the_head(yaw, roll):
    assert yaw_and_roll(seen(yaw, roll)) == pytest.approx((yaw, roll), abs=0.01)


def test_a_nod_moves_a_turn_by_few_degrees():
    assert yaw_and_roll(seen(0, 0, tilt=25)) == pytest.approx((0, 0), abs=0.01)
    assert yaw_and_roll(seen(25, 0, tilt=15))[0] == pytest.approx(25, abs=5)


@pytest.fixture(scope="module")
def face(make, photo):
    """The astronaut's, as the faces filter keeps it."""
    (faces,) = make("faces").score([photo("astronaut")], {})["boxes"].to_pylist()
    return largest_face(faces)


def edited(picture, change):
    rgb = np.ascontiguousarray(change(picture.rgb))
    return Picture(rgb, rgb.shape[1], rgb.shape[0], 1, "png")


def test_each_number_of_the_face_moves_with_what_it_measures(photo, face):
    plain = photo("astronaut")
    told = measures_of(plain, face)
    assert 80 < told["face_side"] < 140 and abs(told["roll"]) < 10 and abs(told["yaw"]) < 25
    blurred = measures_of(edited(plain, lambda rgb: cv2.GaussianBlur(rgb, (0, 0), 3)), face)
    assert blurred["sharpness"] < 0.2 * told["sharpness"] and blurred["brightness"] == pytest.approx(
        told["brightness"], rel=0.05
    )
    burnt = measures_of(edited(plain, lambda rgb: np.clip(rgb.astype(int) * 3, 0, 255).astype(np.uint8)), face)
    assert told["clipped"] < 0.05 and burnt["clipped"] > 0.3 and burnt["brightness"] > told["brightness"]
    mirrored = measures_of(plain, {**face, "landmarks": np.array(seen(-30, 0)).ravel().tolist()})
    assert mirrored["yaw"] == pytest.approx(-30, abs=0.01)


def shaken(rgb, degrees, length=21):
    """As a camera sees it that moved by so many pixels while the shutter was open."""
    kernel = np.zeros((length, length), np.float32)
    turn = length // 2 * np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])
    middle = np.full(2, length // 2)
    cv2.line(kernel, tuple((middle - turn).round().astype(int).tolist()),
             tuple((middle + turn).round().astype(int).tolist()), 1.0)  # fmt: skip
    return cv2.filter2D(rgb, -1, kernel / kernel.sum())


@pytest.mark.parametrize("degrees", [0, 30, 45, 90, 120])
def test_what_moved_has_detail_in_one_direction_and_what_is_out_of_focus_in_none_more_than_in_another(
    photo, face, degrees
):
    plain = photo("astronaut")
    moved = measures_of(edited(plain, lambda rgb: shaken(rgb, degrees)), face)
    unfocused = measures_of(edited(plain, lambda rgb: cv2.GaussianBlur(rgb, (0, 0), 3)), face)
    noisy = measures_of(edited(plain, lambda rgb: cv2.add(rgb, cv2.randn(rgb.copy(), 0, 20))), face)
    assert (
        moved["evenness"] < 0.2 < 0.4 < min(told["evenness"] for told in (measures_of(plain, face), unfocused, noisy))
    )


def test_of_a_face_without_any_detail_no_direction_is_weaker():
    assert evenness(np.full((128, 90), 90, np.uint8)) == 1


def test_a_face_outside_the_picture_has_no_pixels_to_measure(photo, face):
    outside = measures_of(photo("astronaut"), {**face, "box": [900.0, 900.0, 950.0, 960.0]})
    assert set(outside) == {"face_side", "yaw", "roll", "eyes_at", "box_ratio"} and outside["face_side"] == 50


def test_a_box_that_begins_below_the_eyes_or_holds_half_a_face_is_told_by_its_shape(photo, face):
    x1, y1, x2, y2 = face["box"]
    whole = measures_of(photo("astronaut"), face)
    assert 0.25 < whole["eyes_at"] < 0.5 and 0.6 < whole["box_ratio"] < 1
    cut = measures_of(photo("astronaut"), {**face, "box": [x1, y1 + 0.5 * (y2 - y1), x2, y2]})
    assert cut["eyes_at"] < 0 and cut["box_ratio"] == pytest.approx(2 * whole["box_ratio"])
    half = measures_of(photo("astronaut"), {**face, "box": [x1, y1, (x1 + x2) / 2, y2]})
    assert half["eyes_at"] == whole["eyes_at"] and half["box_ratio"] == pytest.approx(whole["box_ratio"] / 2)


def jpeg(rgb, quality):
    out = io.BytesIO()
    Image.fromarray(rgb).save(out, "JPEG", quality=quality)
    return out.getvalue()


def test_blocks_are_seen_at_low_quality_also_after_a_crop(photo):
    rgb = photo("astronaut").rgb
    fine, coarse = (decode(jpeg(rgb, quality)) for quality in (95, 8))
    assert blockiness(fine) < 1.2 < 1.5 < blockiness(coarse)
    cropped = edited(coarse, lambda pixels: pixels[3:-2, 5:-6])
    assert blockiness(cropped) == pytest.approx(blockiness(coarse), rel=0.1)


def test_blocks_are_not_looked_for_where_decoding_has_averaged_them_away(photo):
    large = cv2.resize(photo("astronaut").rgb, (2400, 2400))
    assert blockiness(decode(jpeg(large, 8))) is None
    assert blockiness(edited(photo("astronaut"), lambda rgb: rgb[:31, :31])) is None


def test_rows_stand_alone(photo, make, assert_rows_stand_alone):
    pictures = [photo(name) for name in ("astronaut", "cat", "six")]
    assert_rows_stand_alone(make("quality"), pictures, {"faces": make("faces").score(pictures, {})})


def rows(**numbers):
    count = len(next(iter(numbers.values())))
    columns = {"measured": [True] * count} | numbers
    schema = pa.schema([("measured", pa.bool_()), *((name, pa.float32()) for name in numbers)])
    return pa.table({name: pa.array(values, schema.field(name).type) for name, values in columns.items()})


@pytest.mark.parametrize(
    ("limit", "number", "values"),
    [
        ({"min_face_side": 64}, "face_side", [63.9, 64, 65]),
        ({"min_sharpness": 50}, "sharpness", [49, 50, 1000]),
        ({"min_evenness": 0.2}, "evenness", [0.19, 0.2, 1]),
        ({"max_yaw": 40}, "yaw", [-41, -40, 3]),
        ({"max_roll": 20}, "roll", [21, 20, -20]),
        ({"max_clipped": 0.3}, "clipped", [0.31, 0.3, 0]),
        ({"min_eyes_at": 0.1}, "eyes_at", [-0.3, 0.1, 0.4]),
        ({"min_box_ratio": 0.55}, "box_ratio", [0.54, 0.55, 1.8]),
        ({"max_blockiness": 2}, "blockiness", [2.1, 2, 1]),
    ],
)
def test_a_limit_rejects_what_is_beyond_it_and_what_cannot_be_measured_breaks_none(make, limit, number, values):
    evidence = rows(**{number: [*values, None]})
    one = make("quality")
    assert one.verdict(evidence, QualityThresholds()).tolist() == [PASS] * 4
    assert one.verdict(evidence, QualityThresholds(**limit)).tolist() == [FAIL, PASS, PASS, PASS]


def test_without_the_faces_evidence_nothing_is_known(make, photo):
    unknown = pa.table({"boxes": pa.nulls(1, make("faces").score([], {})["boxes"].type)})
    one = make("quality")
    evidence = one.score([photo("astronaut")], {"faces": unknown})
    assert one.verdict(evidence, QualityThresholds(min_face_side=1)).tolist() == [UNKNOWN]


def test_id_json_has_one_string_whatever_was_measured(make, photo):
    pictures = [photo("astronaut"), photo("rocket")]
    one = make("quality")
    rows = one.score(pictures, {"faces": make("faces").score(pictures, {})}).to_pylist()
    records = [one.in_sample(row) for row in rows]
    assert [list(record) for record in records] == [["quality"]] * 2
    face, none = (json.loads(record["quality"]) for record in records)
    assert face.keys() == none.keys() and None not in face.values()
    assert face["sharpness"] == round(rows[0]["sharpness"], 4)
    assert {number for number, value in none.items() if value is not None} == {"blockiness"}, (
        "no face, no numbers of one"
    )


def test_what_goes_for_another_reason_tells_nothing_of_quality():
    photo = {"colour": "colour", "text": "none", "faces": "1", "drawing": "photo", "keep": "0"}
    for change, answer in (
        ({}, True), ({"keep": "1"}, False), ({"keep": ""}, None), ({"drawing": "cartoon"}, None),
        ({"colour": "toned"}, None), ({"text": "much"}, None), ({"faces": "2"}, None), ({"faces": ""}, True),
    ):  # fmt: skip
        assert Quality.should_reject({**photo, **change}) is answer, change


def test_a_histogram_of_a_lower_limit_shows_what_is_below_zero_as_it_is(make):
    evidence = rows(**{number: [-0.5, 0.5] for number in NUMBERS})
    shown = {
        measure.key: measure.value_of(evidence).tolist() for measure in make("quality").measures(QualityThresholds())
    }
    assert shown["eyes_at"] == [-0.5, 0.5] and shown["yaw"] == [0.5, 0.5]
