"""Faces of whole photos, real ones."""

from __future__ import annotations

import json

import numpy as np
import pytest

from common.decode import decode
from curation.sample.photos import FACE_RECOGNITION, INSIGHTFACE
from model.conditioning.face_finder import FaceFinder
from model.conditioning.faces import Face, NoFaceError, SeveralFacesError, choose_face


def read(package, member: str) -> np.ndarray:
    return decode((package.fetch() / member).read_bytes(), full_size=True).rgb


@pytest.fixture(scope="module", params=["yolov5-face", "centerface"])
def finder(request) -> FaceFinder:
    return FaceFinder(request.param)


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    return read(FACE_RECOGNITION, "tests/test_images/obama.jpg")


@pytest.fixture(scope="module")
def group() -> np.ndarray:
    return read(INSIGHTFACE, "insightface/data/images/t1.jpg")


def test_a_group_has_several_faces_the_surest_first(finder, group):
    faces = finder(group)
    assert len(faces) == 6
    assert [face.score for face in faces] == sorted((face.score for face in faces), reverse=True)
    assert all(face.score >= 0.5 and face.identity is None for face in faces)
    with pytest.raises(SeveralFacesError, match="6 faces"):
        choose_face(faces, "only")
    assert choose_face(faces, "highest_score") is faces[0]
    assert choose_face(faces, "match_box", faces[4].box + 3) is faces[4]


def test_a_portrait_has_one_whose_points_lie_as_named(finder, portrait):
    (face,) = finder(portrait)
    x1, y1, x2, y2 = face.box
    left_eye, right_eye, nose, left_mouth, right_mouth = face.landmarks
    assert ((face.landmarks > [x1, y1]) & (face.landmarks < [x2, y2])).all()
    assert left_eye[0] < nose[0] < right_eye[0] and left_mouth[0] < right_mouth[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])


def test_coordinates_are_pixels_of_the_photo_however_large(finder, portrait):
    large = np.kron(portrait, np.ones((2, 2, 1), np.uint8))
    (face,), (of_large,) = finder(portrait), finder(large)
    assert np.abs(of_large.landmarks / 2 - face.landmarks).max() < 0.03 * (face.box[2] - face.box[0])


def test_a_photo_without_a_face_has_none(finder):
    assert finder(np.full((200, 300, 3), 127, np.uint8)) == []


def test_a_face_is_embedded_when_asked(finder, portrait):
    (face,) = finder(portrait)
    known = finder.embed(portrait, face)
    assert known.identity.shape == (128,) and abs(float(np.linalg.norm(known.identity)) - 1) < 1e-5
    assert (known.box == face.box).all() and face.identity is None
    again = read(FACE_RECOGNITION, "tests/test_images/obama2.jpg")
    other = read(FACE_RECOGNITION, "tests/test_images/biden.jpg")
    same, different = (
        float(finder.embed(rgb, choose_face(finder(rgb), "largest")).identity @ known.identity)
        for rgb in (again, other)
    )
    assert same > 0.94 > 0.9 > different


def test_a_face_too_small_to_embed_is_an_error(finder, portrait):
    with pytest.raises(NoFaceError, match=r"\[5, 5, 15, 15\] .* too small .* dlib"):
        finder.embed(portrait, Face([5, 5, 15, 15], np.zeros((5, 2)), 0.9))


def test_a_finder_without_an_encoder_says_so(portrait):
    finder = FaceFinder(detector="centerface", identity=None)
    (face,) = finder(portrait)
    with pytest.raises(ValueError, match="identity=None; give 'dlib' or 'arcface'"):
        finder.embed(portrait, face)
    assert finder.describe()["detector"]["name"] == "centerface" and finder.describe()["identity"] is None


@pytest.mark.parametrize(
    "photo", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 4), np.uint8), np.zeros((9, 9, 3), np.float32)]
)
def test_only_rgb_bytes_are_a_photo(finder, photo):
    with pytest.raises(ValueError, match="expected a uint8 RGB photo"):
        finder(photo)


def test_a_confidence_below_the_detectors_floor_is_refused():
    with pytest.raises(ValueError, match="min_confidence is 0.01: take 0.1 to 1"):
        FaceFinder(min_confidence=0.01)


def test_describe_is_json_with_every_files_hash(finder):
    described = json.loads(json.dumps(finder.describe()))
    assert described["detector"]["name"] == finder.detector
    assert described["identity"]["encoder"] == "dlib" and described["identity"]["channel_order"] == "rgb"
    hashes = [*described["detector"]["weights"].values(), *described["identity"]["weights"].values()]
    assert len(hashes) == 3 and all(len(digest) == 64 for digest in hashes)
