"""The face aligned to ArcFace's template."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from model.conditioning.alignment import align, template


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


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_points_that_are_not_finite_are_refused(noise, bad):
    points = template(512)
    points[3, 1] = bad
    with pytest.raises(ValueError, match="landmarks: not finite"):
        align(noise, points)
