"""Which face, which square of the photo, which pose map, which aligned face; and that coordinates follow pixels."""

from __future__ import annotations

import hashlib

import cv2
import numpy as np
import pytest

from model.conditions import (
    POSE_COLOURS,
    Crop,
    Face,
    NoFaceError,
    SeveralFacesError,
    align,
    choose_face,
    crop_of,
    mix,
    pose_map,
    template,
)

FRONTAL = template(512)  # five points of a face, in a picture of 512 pixels


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


# -- pose map --------------------------------------------------------------------------------------------------


def test_pose_points_are_bright_and_limbs_are_dim():
    drawn = pose_map(FRONTAL, 512)
    for (x, y), colour in zip(FRONTAL, POSE_COLOURS, strict=True):
        x, y = int(x), int(y)
        assert drawn[y, x].tolist() == drawn[y, x + 10].tolist() == drawn[y - 10, x].tolist() == list(colour)
        assert drawn[y, x + 11].tolist() != list(colour)
    for index in (0, 1, 3, 4):
        x, y = ((FRONTAL[index] + FRONTAL[2]) / 2).astype(int)
        assert drawn[y, x].tolist() == [round(0.6 * level) for level in POSE_COLOURS[index]]
    assert not drawn[[0, 0, -1, -1, 256], [0, -1, 0, -1, 20]].any()


def test_a_limb_is_nine_pixels_wide():
    points = np.array([[100, 256], [490, 20], [300, 256], [490, 60], [490, 100]])
    column = pose_map(points, 512)[:, 200]
    assert np.flatnonzero(column.any(axis=1)).tolist() == list(range(252, 261))


# sha256 of the pixels, looked at once
GOLDEN = {
    "512": "bc99405eb1f95657",
    "64": "140b498a51c71000",
    "legacy": "b1056e798a03524b",
}


@pytest.mark.parametrize("name", list(GOLDEN))
def test_golden_pose_maps(name):
    drawn = {
        "512": lambda: pose_map(FRONTAL, 512),
        "64": lambda: pose_map(FRONTAL / 8, 64),
        "legacy": lambda: pose_map(FRONTAL + 40, 512, legacy=True, source_size=(700, 900)),
    }[name]()
    assert hashlib.sha256(drawn.tobytes()).hexdigest()[:16] == GOLDEN[name]


def test_strokes_are_as_thick_at_any_size():
    full, small = pose_map(FRONTAL, 512), pose_map(FRONTAL / 8, 64)
    assert (cv2.resize(full, (64, 64), interpolation=cv2.INTER_AREA) == small).all()
    light = [picture.mean() for picture in (full, small, pose_map(FRONTAL * 2, 1024))]
    assert max(light) / min(light) < 1.01


@pytest.mark.parametrize(
    "corner", [(0, 256), (511.9, 256), (256, 0), (256, 511.9), (-9, 256), (520, 256), (512, 512), (-1, -1)]
)
def test_what_falls_inside_of_a_point_at_the_border_is_drawn(corner):
    """Against the same drawing on a canvas with a margin of 64 pixels."""
    points = np.clip(np.tile(np.float32(corner), (5, 1)) + FRONTAL - FRONTAL[2], -60, 570)
    inside = pose_map(points, 512)
    on_margin = pose_map(points + 64, 640, legacy=True, source_size=(640, 640))
    assert inside.any() and (inside == on_margin[64:-64, 64:-64]).all()


@pytest.mark.parametrize("away", [100, 1e3, 1e5, 1e9, 1e30, -1e5, -1e30])
def test_points_far_outside_draw_nothing_or_what_crosses(away):
    assert not pose_map(FRONTAL + np.float32(abs(away) + 600) * np.sign(away), 512).any()
    one_far = FRONTAL.copy()
    one_far[0] = away, away
    drawn = pose_map(one_far, 512)
    assert drawn[286, 256].tolist() == [0, 0, 255] and drawn.shape == (512, 512, 3)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_points_that_are_not_finite_are_refused(bad):
    points = FRONTAL.copy()
    points[3, 1] = bad
    for action in (lambda: pose_map(points, 512), lambda: align(np.zeros((9, 9, 3), np.uint8), points)):
        with pytest.raises(ValueError, match="landmarks: not finite"):
            action()


def test_legacy_strokes_shrink_with_the_source():
    """As the authors drew: on the source, whose shorter side then becomes `size`, of which the centre is taken."""
    source = np.array([[1000, 1400], [1200, 1400], [1100, 1500], [1020, 1600], [1180, 1600]])
    drawn = pose_map(source, 512, legacy=True, source_size=(2048, 3072))
    # 2048 x 3072 -> 512 x 768 -> rows 128 to 640
    for point, colour in zip(source / 4 - [0, 128], POSE_COLOURS, strict=True):
        x, y = point.astype(int)
        assert drawn[y, x].tolist() == list(colour)
    modern = pose_map(source / 4 - [0, 128], 512)
    assert drawn.any(axis=2).sum() < modern.any(axis=2).sum() / 3


def test_legacy_takes_the_size_of_the_source():
    with pytest.raises(ValueError, match="source_size"):
        pose_map(FRONTAL, 512, legacy=True)
    with pytest.raises(ValueError, match="source_size"):
        pose_map(FRONTAL, 512, source_size=(512, 512))


# -- aligned face ----------------------------------------------------------------------------------------------


def test_the_template_of_512_is_the_one_that_the_authors_used():
    expected = [(185.18, 206.79), (326.13, 206.01), (256.10, 286.95), (198.20, 369.46), (314.92, 368.82)]
    assert np.abs(template(512) - expected).max() < 0.006
    assert np.abs(template(224) - 2 * template(112)).max() == 0
    assert template(896).tolist() == (8 * template(112)).tolist()  # a multiple of both: insightface asks for 112 first


@pytest.mark.parametrize("size", [0, -112, 100, 500])
def test_other_sizes_are_refused(size):
    with pytest.raises(ValueError, match=r"multiple of 112 \(224 ...\) or 128 \(512 ...\)"):
        template(size)


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    small = np.random.default_rng(1).integers(0, 256, (30, 40, 3), np.uint8)
    return cv2.resize(small, (400, 300), interpolation=cv2.INTER_CUBIC)


def turned(points: np.ndarray, degrees: float, scale: float, shift: tuple[float, float]) -> np.ndarray:
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return ((points - points.mean(axis=0)) @ turn.T * scale + shift).astype(np.float32)


@pytest.mark.parametrize("size", [112, 224, 512])
@pytest.mark.parametrize("degrees", [0, 30, -100, 180])
def test_an_exact_similarity_is_found_as_opencv_finds_it(noise, size, degrees):
    points = turned(template(size), degrees, 100 / size, (200, 150))
    matrix, _ = cv2.estimateAffinePartial2D(points, template(size), method=cv2.LMEDS)
    expected = cv2.warpAffine(noise, matrix, (size, size))
    difference = np.abs(align(noise, points, size).astype(int) - expected)
    assert difference.mean() < 0.1 and expected.std() > 20


@pytest.mark.parametrize("size", [112, 512])
def test_a_face_seen_from_the_side_is_fitted_by_least_squares(noise, size):
    points = turned(template(size), 20, 120 / size, (200, 150))
    points[2] += 30, 4  # the nose
    # a similarity (a, b, tx, ty) as a linear system: x' = a x - b y + tx, y' = b x + a y + ty
    x, y, one, zero = points[:, 0], points[:, 1], np.ones(5), np.zeros(5)
    system = np.concatenate([np.stack([x, -y, one, zero], 1), np.stack([y, x, zero, one], 1)])
    a, b, tx, ty = np.linalg.lstsq(system, template(size).T.reshape(-1), rcond=None)[0]
    expected = cv2.warpAffine(noise, np.array([[a, -b, tx], [b, a, ty]]), (size, size))
    assert np.abs(align(noise, points, size).astype(int) - expected).mean() < 0.1
    # OpenCV's median drops the nose
    median, _ = cv2.estimateAffinePartial2D(points, template(size), method=cv2.LMEDS)
    assert np.abs(cv2.warpAffine(noise, median, (size, size)).astype(int) - expected).mean() > 1


def test_a_mirrored_face_is_not_mirrored_back(noise):
    mirrored = template(112) * np.float32([-1, 1]) + np.float32([250, 90])
    upright = template(112) + np.float32([250 - 112, 90])
    assert np.abs(align(noise, mirrored).astype(int) - align(noise[:, ::-1], upright)).mean() > 5


def test_points_in_one_place_cannot_be_aligned(noise):
    assert align(noise, np.full((5, 2), 7.0)) is None


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
