"""yolov5-face as its network is run: batches, the shapes of its file, the square that it sees."""

from __future__ import annotations

import cv2
import numpy as np
import onnxruntime
import pytest

from model.conditioning.detectors import FACE_FLOOR
from model.conditioning.detectors.yolov5face import YoloFace, decode, letterbox, logit


def test_a_batch_gives_what_singles_give(photo, yolov5_face):
    model = YoloFace(yolov5_face.path, 640, "cpu")
    images = [photo(name).view(640) for name in ("astronaut", "six", "cat")]
    alone = model(images, FACE_FLOOR)
    model.batched = True  # what a GPU does
    for found, expected in zip(model(images, FACE_FLOOR), alone, strict=True):
        for one, other in zip(found, expected, strict=True):
            assert np.array_equal(one, other)


def test_the_file_with_its_batch_of_one_gives_the_same(photo, yolov5_face):
    square, _, _ = letterbox(photo("six").view(640), 640)
    untouched = onnxruntime.InferenceSession(str(yolov5_face.path)).run(None, {"data": square[None]})
    freed = YoloFace(yolov5_face.path, 640, "cpu").session.run(None, {"data": square[None]})
    for one, other in zip(untouched, freed, strict=True):
        assert one == pytest.approx(other, abs=1e-4)


def test_other_outputs_are_refused():
    with pytest.raises(ValueError, match=r"not a yolov5-face model.*\(1, 4, 85\)"):
        decode([np.zeros((1, 4, 85), np.float32)], 0.1)


def test_letterbox_is_centred_and_grey():
    square, scale, corner = letterbox(np.full((100, 200, 3), 255, np.uint8), 64)
    assert square.shape == (3, 64, 64) and scale == (0.32, 0.32) and corner == (0, 16)
    assert square[:, 16:48] == pytest.approx(1) and square[:, :16] == pytest.approx(114 / 255)


@pytest.mark.parametrize("floor", [0.0, 0.1, 0.5, 0.9])
def test_no_cell_above_the_floor_is_left_out(floor):
    """Cells are sifted by one number before their scores are computed; those at the floor itself are the hard ones."""
    draw = np.random.default_rng(5)
    raw = [draw.normal(0, 3, (1, 3, size, size, 16)).astype(np.float32) for size in (8, 4, 2)]
    for level in raw:
        level[..., 15] = 40  # a sigmoid of 1 leaves the score to the other number
        level[0, 0, :, :, 4] = logit(max(floor, 0.01)) + draw.normal(0, 1e-5, level.shape[2:4])
    scores = np.concatenate([(1 / (1 + np.exp(-level[0, ..., 4]))).ravel() for level in raw])
    (found,) = decode(raw, floor)
    assert np.array_equal(np.sort(found[:, 14]), np.sort(scores[scores > np.float32(floor)]))


def test_a_square_is_written_whole(photo):
    """Its memory is not cleared first: every number must be written, whichever side has the edges."""
    rgb = photo("astronaut").view(640)
    for image in (rgb, rgb[:100], rgb[:, :100], rgb[:333, :640]):
        square, scale, (left, top) = letterbox(image, 640)
        height, width = (round(side * scale[axis]) for side, axis in zip(image.shape[:2], (1, 0), strict=True))
        expected = np.full((3, 640, 640), np.float32(114 / 255))
        resized = cv2.resize(image, (width, height)) if (height, width) != image.shape[:2] else image
        expected[:, top : top + height, left : left + width] = resized.transpose(2, 0, 1) * np.float32(1 / 255)
        assert np.array_equal(square, expected)
