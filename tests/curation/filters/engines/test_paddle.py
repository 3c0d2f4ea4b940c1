"""PaddleOCR's own code beside our engine, on every labelled photo of the sample that has text on it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import shapely
from scipy.optimize import linear_sum_assignment

from common.decode import Undecodable, decode
from curation.calibration.calibrate import SAMPLE_LABELS
from curation.calibration.label_table import read_labels
from curation.calibration.labels import photos_of_sample
from curation.filters.engines import paddle
from curation.filters.engines.paddle import PaddleEngine, PaddleError
from curation.filters.evidence import FAIL
from curation.filters.text import Text, TextThresholds, area_and_number

SIDE = Text.Settings().max_side


@pytest.fixture(scope="module")
def labelled():
    """(picture, its label) of each photo that a person says has text on it, little or much."""
    there, found = photos_of_sample(), []
    for label in read_labels(SAMPLE_LABELS, "sha256"):
        if label["text"] in ("little", "much"):
            try:
                found.append((decode(there[label["sha256"]]()), label))
            except Undecodable:
                continue  # the sample has broken files on purpose
    return found


@pytest.fixture(scope="module")
def filters(make):
    """Our engine and PaddleOCR's, whose environment is made on the first call, into the cache: 250 MB of wheels."""
    try:
        paddle.make(paddle.folder())
    except PaddleError as error:
        pytest.skip(str(error).splitlines()[0])
    opened = subprocess.run([paddle.folder() / "bin" / "python", "-c", "import cv2"], capture_output=True, text=True)
    if opened.returncode:
        pytest.skip(f"PaddleOCR's OpenCV does not start on this machine: {opened.stderr.splitlines()[-1]}")
    return make("text"), make("text", engine="paddleocr")


@pytest.fixture(scope="module")
def scored(filters, labelled):
    """Evidence of the labelled photos by our engine, and by PaddleOCR's."""
    return tuple(one.score([picture for picture, _ in labelled], {}) for one in filters)


def corners(row: list[dict], size: tuple[int, int]) -> np.ndarray:
    """float64 (boxes, 4, 2), in pixels of the view."""
    return np.array([box["quad"] for box in row], np.float64).reshape(-1, 4, 2) * size


def pairs(ours: np.ndarray, theirs: np.ndarray) -> list[tuple[int, int]]:
    """Which box of the one is which of the other: those that overlap most. Boxes of equal scores have no order."""
    one, other = (shapely.convex_hull(shapely.multipoints(quads)) for quads in (ours, theirs))
    overlap = shapely.area(shapely.intersection(one[:, None], other[None]))
    return list(zip(*linear_sum_assignment(-overlap), strict=True))


def test_every_box_is_found_by_both_and_at_one_place(scored, labelled):
    assert len(labelled) >= 50
    ours, theirs = (table["boxes"].to_pylist() for table in scored)
    assert [len(row) for row in theirs] == [len(row) for row in ours] and sum(map(len, ours)) >= 100
    far, unsure = [], []
    for (picture, _), one, other in zip(labelled, ours, theirs, strict=True):
        size = picture.view(SIDE).shape[1::-1]
        here, there = corners(one, size), corners(other, size)
        for a, b in pairs(here, there):
            far.append(np.abs(here[a] - there[b]).max())
            unsure.append(abs(one[a]["score"] - other[b]["score"]))
    assert max(far) <= 2  # pixels of the view, of which the longer side has 480
    assert np.mean(np.array(far) > 0.01) <= 0.02  # one box in fifty; the others are where ours are
    assert max(unsure) <= 5e-3


def test_the_same_photos_are_found_and_lost(scored, filters, labelled):
    much = np.array([label["text"] == "much" for _, label in labelled])
    ours, theirs = (one.verdict(table, TextThresholds()) == FAIL for one, table in zip(filters, scored, strict=True))
    assert np.array_equal(ours, theirs)
    assert ours[much].mean() > 0.8 and ours[~much].mean() < 0.05, "found of what has much text, lost of what has little"
    areas = [area_and_number(table, TextThresholds())[0] for table in scored]
    assert areas[0] == pytest.approx(areas[1], abs=0.005)


def test_the_process_ends_with_its_engine(filters):
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


@pytest.mark.parametrize("python", [sys.executable, "/no/such/python"])
def test_what_cannot_be_made_leaves_nothing_behind_and_says_why(monkeypatch, tmp_path, capsys, python):
    pins = tmp_path / "pins.txt"
    pins.write_text("./no-such-wheel.whl\n")
    monkeypatch.setattr(paddle, "PINS", pins)
    assert paddle.main(["--folder", str(tmp_path / "env"), "--python", python]) == 2
    assert "PaddleOCR's environment cannot be made" in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == [pins]
