"""Non-maximum suppression of a detector's candidates."""

from __future__ import annotations

import numpy as np

from model.conditioning.detectors.detections import MAX_CANDIDATES, suppress


def test_suppression_keeps_the_best_and_ties_do_not_depend_on_order():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60], [0, 1, 10, 11]], np.float32)
    scores = np.array([0.5, 0.9, 0.5, 0.5], np.float32)
    assert suppress(boxes, scores, 0.5).tolist() == [1, 2]
    shuffled = [2, 3, 0, 1]
    again = suppress(boxes[shuffled], scores[shuffled], 0.95)
    assert boxes[shuffled][again].tolist() == boxes[suppress(boxes, scores, 0.95)].tolist()
    assert suppress(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), 0.5).tolist() == []


def test_of_too_many_candidates_the_best_are_looked_at():
    corner = np.arange(MAX_CANDIDATES + 50, dtype=np.float32) * 20
    boxes = np.stack([corner, corner, corner + 10, corner + 10], axis=1)
    scores = np.linspace(0.1, 0.9, len(boxes), dtype=np.float32)
    kept = suppress(boxes, scores, 0.5)
    assert len(kept) == MAX_CANDIDATES and kept[0] == len(boxes) - 1 and kept.min() == 50
