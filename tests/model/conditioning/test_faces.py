"""Which face, which square of the photo, and that coordinates follow pixels; two people mixed."""

from __future__ import annotations

import numpy as np
import pytest

from model.conditioning.faces import Crop, Face, NoFaceError, SeveralFacesError, choose_face, crop_of, mix


def face(box, score=0.9) -> Face:
    return Face(box, np.zeros((5, 2)), score)


# -- which face ------------------------------------------------------------------------------------------------

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
    with pytest.raises(SeveralFacesError, match=r"^a\.jpg: 3 faces .*'largest', 'highest_score' or 'match_box'"):
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


# -- the square around it --------------------------------------------------------------------------------------

# 200 x 301: floor(1.5 x 301 / 2) = 225 around (100 + 100, 200 + 150): x -25..425, y 125..575
BOX = [100, 200, 300, 501]


@pytest.mark.parametrize(
    ("policy", "width", "height", "square"),
    [
        ("pad", 800, 600, (-25, 125, 450)),
        ("pad", 300, 300, (-25, 125, 450)),
        ("clip", 800, 600, (0, 137.5, 425)),  # cut at x = 0, then 12.5 above and below
        ("clip", 800, 500, (25, 125, 375)),  # cut at x = 0 and y = 500: 425 x 375
        ("shift", 800, 600, (0, 125, 450)),
        ("shift", 800, 500, (0, 50, 450)),
        ("shift", 400, 600, (0, 150, 400)),  # does not fit: smaller, its centre stays at y = 350
        ("whole", 800, 600, (100, 0, 600)),
        ("whole", 301, 600, (0, 149.5, 301)),
    ],
)
def test_the_square_of_each_policy(policy, width, height, square):
    crop = crop_of(BOX, width, height, policy)
    assert (crop.left, crop.top, crop.side) == square
    assert crop == Crop(*square, width, height)


def test_the_factor_and_fractions_of_a_pixel_are_rounded_down():
    # longer side 10.4: floor(20.8 / 2) = 10 around floor(0.5 + 10.4 // 2) = 5
    assert crop_of([0.5, 10.5, 10.9, 12.5], 100, 100, "pad", factor=2) == Crop(-5, 1, 20, 100, 100)


@pytest.mark.parametrize("box", [[5, 5, 5, 9], [9, 5, 5, 9], [5, 5, 6, 6]])
def test_an_empty_box_is_refused(box):
    with pytest.raises(ValueError, match="is empty"):
        crop_of(box, 100, 100, "pad")


@pytest.mark.parametrize("policy", ["clip", "pad", "shift"])
def test_a_box_outside_the_photo_and_no_box_are_refused(policy):
    with pytest.raises(ValueError, match="outside the photo of 100 x 50 pixels .*EXIF"):
        crop_of([200, 10, 240, 50], 100, 50, policy)
    with pytest.raises(ValueError, match="needs the box of a face"):
        crop_of(None, 100, 50, policy)
    assert crop_of(None, 100, 50, "whole").side == 50


@pytest.mark.parametrize("policy", ["clip", "pad", "shift", "whole"])
@pytest.mark.parametrize("size", [64, 512])
@pytest.mark.parametrize("box", [[60, 40, 161, 150], [5, 20, 110, 160], [150, 90, 270, 199]])
def test_points_follow_the_pixels(policy, size, box):
    """Blocks of the photo are found in the picture where `points` says: enlarged, shrunk, at every edge."""
    crop = crop_of(box, 300, 200, policy)
    checked = 0
    for left, top in [(40, 60), (80, 80), (100, 120), (140, 100), (180, 150), (210, 120), (240, 160)]:
        rgb = np.zeros((200, 300, 3), np.uint8)
        rgb[top : top + 6, left : left + 8] = 200
        expected = crop.points([[left + 4, top + 3]], size)[0]
        margin = 12 * size / crop.side
        if (expected < margin).any() or (expected > size - margin).any():
            continue
        checked += 1
        picture = crop.image(rgb, size)
        assert picture.shape == (size, size, 3) and picture.dtype == np.uint8
        assert np.abs(centroid(picture[..., 0]) - expected).max() < 0.1
    assert checked >= 2


def centroid(grey: np.ndarray) -> np.ndarray:
    """(x, y) of the light, where pixel i covers [i, i + 1)."""
    weights = grey.astype(np.float64)
    y, x = np.indices(grey.shape) + 0.5
    return np.array([(x * weights).sum(), (y * weights).sum()]) / weights.sum()


def test_a_crop_of_its_own_size_is_the_pixels_themselves():
    rgb = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    assert (Crop(37, 41, 128, 300, 200).image(rgb, 128) == rgb[41:169, 37:165]).all()


def test_outside_the_photo_is_black():
    picture = Crop(-30, 180, 60, 300, 200).image(np.full((200, 300, 3), 255, np.uint8), 60)
    inside = np.zeros((60, 60, 3), np.uint8)
    inside[:20, 30:] = 255
    assert (picture == inside).all()


def test_shrinking_does_not_alias():
    stripes = np.zeros((900, 900, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.ptp(Crop(0, 0, 900, 900, 900).image(stripes, 128)[:, 4:-4].astype(int)) <= 2


def test_a_crop_refuses_another_photo():
    with pytest.raises(
        ValueError, match=r"crop of a photo uint8 \(200, 300, 3\); the one given is uint8 \(300, 200, 3"
    ):
        Crop(0, 0, 100, 300, 200).image(np.zeros((300, 200, 3), np.uint8), 64)


# -- mixing two people -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(128,), (2, 4, 8)])
def test_a_mix_goes_from_the_first_to_the_second(shape):
    torch = pytest.importorskip("torch")
    generator = np.random.default_rng(3)
    first, second = (generator.normal(size=shape).astype(np.float32) for _ in range(2))
    assert (mix(first, second, 0) == first).all() and (mix(first, second, 1) == second).all()
    assert np.allclose(mix(first, second), (first + second) / 2)
    assert np.allclose(mix(first, second, 0.25), 0.75 * first + 0.25 * second)
    assert mix(first, second).dtype == np.float32
    for renormalise in (False, True):
        expected = mix(first, second, 0.3, renormalise)
        tensor = mix(torch.from_numpy(first), torch.from_numpy(second), 0.3, renormalise)
        assert tensor.dtype == torch.float32 and np.allclose(tensor.numpy(), expected, atol=1e-6)
    assert np.allclose(np.linalg.norm(expected, axis=-1), 1, atol=1e-6)


def test_the_authors_mix_is_shorter_than_one():
    first, second = np.eye(4, dtype=np.float32)[:2]
    assert np.linalg.norm(mix(first, second)) == pytest.approx(0.5**0.5)
    assert np.linalg.norm(mix(first, second, renormalise=True)) == pytest.approx(1)


def test_what_cannot_be_mixed_is_refused():
    vector = np.ones(4, np.float32)
    for alpha in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="take 0 .* to 1"):
            mix(vector, vector, alpha)
    with pytest.raises(ValueError, match=r"\(4,\) and \(5,\) cannot be mixed: take both from the same encoder"):
        mix(vector, np.ones(5, np.float32))
    with pytest.raises(ValueError, match="cancel out"):
        mix(vector, -vector, renormalise=True)
