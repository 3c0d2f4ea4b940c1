"""The square around a face under each policy, and that coordinates follow the pixels."""

from __future__ import annotations

import numpy as np
import pytest

from model.conditioning.crops import Crop, crop_of

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
    with pytest.raises(ValueError, match=r"crop of a photo uint8 \(200, 300, 3\); this photo is uint8 \(300, 200, 3"):
        Crop(0, 0, 100, 300, 200).image(np.zeros((300, 200, 3), np.uint8), 64)


@pytest.mark.parametrize("size", [1e5, 1e9, 1e38])
def test_a_box_that_would_take_any_memory_is_no_face(size):
    with pytest.raises(ValueError, match="is no face of a photo of 800 x 600 pixels"):
        crop_of([-size, -size, size, size], 800, 600, "pad")
