"""The pose map: a stick drawing of five landmarks."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from common.hashing import sha256_of_bytes
from model.conditioning.alignment import template
from model.conditioning.pose_map import POSE_COLOURS, pose_map

FRONTAL = template(512)  # five points of a face, in a picture of 512 pixels


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
    assert sha256_of_bytes(drawn.tobytes())[:16] == GOLDEN[name]


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
    with pytest.raises(ValueError, match="landmarks: not finite"):
        pose_map(points, 512)


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
