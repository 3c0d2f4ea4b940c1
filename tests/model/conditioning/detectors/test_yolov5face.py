"""yolov5-face as its network is run: batches, the shapes of its file, the square that it sees."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from model.conditioning.detectors import FACE_FLOOR
from model.conditioning.detectors.yolov5face import YoloFace, decode, letterbox


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
