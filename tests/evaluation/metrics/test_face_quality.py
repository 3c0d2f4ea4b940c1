"""Pose and face quality on a photo that is turned and blurred by known amounts."""

from __future__ import annotations

import cv2
import pytest

from evaluation.metrics.base import Pair, Sources
from evaluation.metrics.face_quality import FaceQuality
from tests.real_photos import photo  # noqa: F401  (a fixture)


@pytest.fixture(scope="module")
def metric():
    return FaceQuality(Sources())


@pytest.fixture(scope="module")
def rgb(photo):  # noqa: F811
    return photo("astronaut").rgb


def told(metric, reference, drawn):
    return metric.scores(Pair(metric.features(reference), metric.features(drawn)))


def test_a_copy_is_0_degrees_apart_and_has_the_size_of_its_face(metric, rgb):
    copied = told(metric, rgb, rgb)
    assert copied["yaw_apart"] == copied["roll_apart"] == 0
    assert 80 / 512 < copied["size"] < 140 / 512 and copied["sharpness"] > 0


def test_a_turned_photo_is_apart_by_its_turn(metric, rgb):
    center = rgb.shape[1] / 2, rgb.shape[0] / 2
    turned = cv2.warpAffine(rgb, cv2.getRotationMatrix2D(center, 15, 1), rgb.shape[1::-1])
    apart = told(metric, rgb, turned)
    assert apart["roll_apart"] == pytest.approx(15, abs=4) and apart["yaw_apart"] < 12


def test_half_a_turn_is_the_most_that_two_can_be_apart(metric):
    def face(roll):
        return {"yaw": 0.0, "roll": roll, "size": 0.5, "sharpness": 1.0}

    assert metric.scores(Pair(face(170.0), face(-170.0)))["roll_apart"] == pytest.approx(20)
    assert metric.scores(Pair(face(-90.0), face(90.0)))["roll_apart"] == 180


def test_a_blurred_face_is_less_sharp_and_a_smaller_photo_s_face_is_as_large(metric, rgb):
    plain = told(metric, rgb, rgb)
    blurred = told(metric, rgb, cv2.GaussianBlur(rgb, (0, 0), 3))
    assert blurred["sharpness"] < 0.2 * plain["sharpness"]
    small = told(metric, rgb, cv2.resize(rgb, None, fx=0.75, fy=0.75, interpolation=cv2.INTER_AREA))
    assert small["size"] == pytest.approx(plain["size"], rel=0.1)


def test_a_picture_without_a_face_has_no_numbers_and_is_listed(metric, rgb, photo):  # noqa: F811
    cat = metric.features(photo("cat").rgb)
    assert (
        metric.unusable(cat) == metric.remark(cat) == "no face was found" and metric.remark(metric.features(rgb)) == ""
    )
    assert set(metric.scores(Pair(metric.features(rgb), cat)).values()) == {None}
