"""Which of several faces is chosen, and what a Face holds."""

from __future__ import annotations

import numpy as np
import pytest

from model.conditioning.faces import Face, NoFaceError, SeveralFacesError, choose_face


def face(box, score=0.9) -> Face:
    return Face(box, np.zeros((5, 2)), score)


SMALL_SURE, LARGE, SMALL = face([0, 0, 10, 10], 0.99), face([20, 0, 60, 50], 0.8), face([70, 0, 80, 10], 0.7)


@pytest.mark.parametrize(
    ("policy", "box", "chosen"),
    [
        ("largest", None, LARGE),
        ("highest_score", None, SMALL_SURE),
        ("match_box", [68, 0, 79, 12], SMALL),
        ("match_box", [0, 0, 60, 50], LARGE),
    ],
)
@pytest.mark.parametrize("turned", [1, -1])
def test_a_policy_chooses_one_face_whatever_their_order(policy, box, chosen, turned):
    assert choose_face([SMALL_SURE, LARGE, SMALL][::turned], policy, box) is chosen


def test_only_takes_the_only_face_and_refuses_several():
    assert choose_face([LARGE], "only") is LARGE
    with pytest.raises(
        SeveralFacesError, match=r"^a\.jpg: 3 faces .*'largest' or 'highest_score', or cut the photo to one face$"
    ):
        choose_face([SMALL_SURE, LARGE, SMALL], "only", where="a.jpg")


@pytest.mark.parametrize("policy", ["only", "largest", "highest_score", "match_box"])
def test_no_face_is_an_error_that_names_the_photo(policy):
    with pytest.raises(NoFaceError, match=r"^a\.jpg: no face was found; take a photo"):
        choose_face([], policy, box=[0, 0, 1, 1], where="a.jpg")


def test_match_box_needs_a_box_that_overlaps_a_face():
    with pytest.raises(ValueError, match="needs a box"):
        choose_face([LARGE], "match_box")
    with pytest.raises(NoFaceError, match=r"no face overlaps the box .*\[\[20, 0, 60, 50\]\]"):
        choose_face([LARGE], "match_box", [60, 0, 90, 50])


@pytest.mark.parametrize("policy", ["largest", "highest_score"])
@pytest.mark.parametrize("turned", [1, -1])
def test_a_tie_goes_to_the_left_then_up(policy, turned):
    faces = [face([5, 0, 15, 10]), face([5, 30, 15, 40]), face([40, 0, 50, 10])]
    assert choose_face(faces[::turned], policy).box.tolist() == [5, 0, 15, 10]


def test_equally_sure_faces_are_told_apart_by_size():
    left, large = face([5, 0, 15, 10]), face([40, 0, 60, 20])
    assert choose_face([left, large], "highest_score") is large


def test_an_unknown_policy_is_told_the_known_ones():
    with pytest.raises(ValueError, match="'biggest'; choose one of only, largest, highest_score, match_box"):
        choose_face([LARGE], "biggest")


def test_a_face_holds_finite_float32_arrays_of_its_shapes():
    made = Face([0, 1, 2, 3], np.arange(10).reshape(5, 2), 0.5, np.ones(7))
    assert {array.dtype.name for array in (made.box, made.landmarks, made.identity)} == {"float32"}
    with pytest.raises(ValueError, match=r"landmarks: expected the shape \(5, 2\), got \(10,\)"):
        Face([0, 1, 2, 3], np.arange(10), 0.5)
    with pytest.raises(ValueError, match="box: not finite"):
        Face([0, 1, 2, np.inf], np.zeros((5, 2)), 0.5)
    with pytest.raises(ValueError, match=r"identity: expected the shape \(7,\), got \(1, 7\)"):
        Face([0, 1, 2, 3], np.zeros((5, 2)), 0.5, np.ones((1, 7)))
