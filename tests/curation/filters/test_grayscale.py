from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from curation.filters.evidence import FAIL, PASS, UNKNOWN
from curation.filters.grayscale import GrayscaleThresholds, channel_std


def naive(rgb: np.ndarray) -> float:
    return float(rgb.astype(np.float64).std(axis=2).mean())


@pytest.mark.parametrize("name", ["astronaut", "cat", "page", "six"])
def test_is_the_mean_over_pixels_of_the_std_over_channels(photo, make, name):
    picture = photo(name)
    scored = make("grayscale").score([picture], {})["std"].to_pylist()[0]
    assert scored == pytest.approx(naive(picture.view(256)), abs=1e-3)


def test_extreme_colours_do_not_overflow():
    noise = np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    corners = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [0, 0, 0], [255] * 3]], np.uint8)
    for rgb in (noise, corners):
        assert channel_std(rgb) == pytest.approx(naive(rgb), abs=1e-3)


def test_tells_grey_from_colour(photo, make, picture_of):
    colour = photo("astronaut")
    grey = picture_of(np.repeat(colour.rgb.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2))
    one = make("grayscale")
    evidence = one.score([colour, grey, photo("page")], {})
    assert one.verdict(evidence, GrayscaleThresholds()).tolist() == [PASS, FAIL, FAIL]


def test_one_size_of_view_whatever_the_image(photo, make, picture_of):
    large = np.repeat(np.repeat(photo("astronaut").rgb, 3, axis=0), 3, axis=1)
    scores = make("grayscale").score([photo("astronaut"), picture_of(large)], {})["std"].to_pylist()
    assert scores[0] == pytest.approx(scores[1], rel=0.01)


def test_rows_stand_alone(photo, make, assert_rows_stand_alone):
    assert_rows_stand_alone(make("grayscale"), [photo(name) for name in ("astronaut", "cat", "six")])


def test_verdict_is_of_evidence_and_threshold_alone(make):
    evidence = pa.table({"std": pa.array([4.9, 5.0, None, 60.0], pa.float32())})
    one = make("grayscale")
    assert one.verdict(evidence, GrayscaleThresholds(min_std=5)).tolist() == [FAIL, PASS, UNKNOWN, PASS]
    assert one.verdict(evidence, GrayscaleThresholds(min_std=50)).tolist() == [FAIL, FAIL, UNKNOWN, PASS]
    assert one.verdict(evidence.slice(0, 0), GrayscaleThresholds()).tolist() == []
