from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from curation.filters.evidence import FAIL, PASS, UNKNOWN
from curation.filters.faces import FACE
from curation.filters.toned import Toned, TonedThresholds, best_boxes, tone_residual

ASTRONAUT = [180.0, 62.0, 271.0, 178.0]  # the face


def faces(*rows: list[tuple[float, list[float]]] | None) -> pa.Table:
    found = [
        None if row is None else [{"box": box, "score": score, "landmarks": [0.0] * 10} for score, box in row]
        for row in rows
    ]
    return pa.table({"boxes": pa.array(found, pa.list_(FACE))})


def toned(rgb: np.ndarray, *stops: tuple[int, int, int]) -> np.ndarray:
    """Each lightness gets one colour, from the first stop to the last."""
    grey = rgb @ np.array([0.299, 0.587, 0.114]) / 255
    at = np.linspace(0, 1, len(stops))
    return np.stack([np.interp(grey, at, [stop[c] for stop in stops]) for c in range(3)], axis=2).astype(np.uint8)


TONES = {
    "grey": ((0, 0, 0), (255, 255, 255)),
    "sepia": ((20, 10, 0), (150, 115, 75), (255, 240, 205)),
    "cyanotype": ((5, 20, 60), (60, 120, 170), (235, 245, 250)),
    "split tone": ((10, 25, 55), (130, 125, 125), (255, 235, 195)),
    "two inks": ((40, 10, 90), (255, 200, 60)),
}


@pytest.fixture(scope="module")
def one(make) -> Toned:
    return make("toned")


@pytest.mark.parametrize("tone", TONES)
def test_one_colour_for_each_lightness_is_toned_and_a_colour_photo_is_not(photo, picture_of, one, tone):
    colour = photo("astronaut")
    pictures = [colour, picture_of(toned(colour.rgb, *TONES[tone]))]
    evidence = one.score(pictures, {"faces": faces(*[[(0.9, ASTRONAUT)]] * 2)})
    assert one.verdict(evidence, TonedThresholds()).tolist() == [PASS, FAIL]


def test_looks_about_the_face_alone(photo, picture_of, one):
    colour = photo("astronaut").rgb
    on_white, framed = np.full_like(colour, 255), toned(colour, *TONES["sepia"])
    on_white[40:200, 160:290] = colour[40:200, 160:290]
    framed[:20], framed[-20:], framed[:, :20], framed[:, -20:] = (0, 160, 40), (200, 0, 0), (0, 0, 220), (240, 220, 0)
    needed = faces(*[[(0.9, ASTRONAUT)]] * 2, [], [])
    evidence = one.score([picture_of(rgb) for rgb in (on_white, framed) * 2], {"faces": needed})
    assert one.verdict(evidence, TonedThresholds()).tolist()[:2] == [PASS, FAIL]
    about_the_face, whole = evidence["residual"].to_pylist()[:2], evidence["residual"].to_pylist()[2:]
    assert whole[0] < about_the_face[0] and whole[1] > about_the_face[1], "without a face the whole picture is measured"


def test_faces_unknown_tiny_and_at_the_edge(photo, one):
    picture = photo("astronaut")
    edge = [picture.width - 4.0, picture.height - 4.0, picture.width + 0.0, picture.height + 0.0]
    rows = [None, [(0.9, [10.0, 10.0, 10.0, 10.0])], [(0.9, edge)], [(0.2, ASTRONAUT)]]
    evidence = one.score([picture] * 4, {"faces": faces(*rows)})
    found = evidence["residual"].to_pylist()
    assert found[0] is None and None not in found[1:]
    assert found[3] == found[1], "what is faint, or has no size, is no face: the whole picture is measured"
    assert one.verdict(evidence, TonedThresholds()).tolist()[0] == UNKNOWN


def test_the_face_that_is_large_and_sure_counts():
    small, large, faint = [0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 40.0, 40.0], [0.0, 0.0, 90.0, 90.0]
    boxes = best_boxes(faces([], [(0.9, small), (0.5, large), (0.29, faint)], None))
    assert list(boxes) == [1] and boxes[1].tolist() == large


def test_what_is_left_is_no_matter_of_lightness_or_of_the_tone():
    ramp = np.repeat(np.linspace(0, 255, 48)[None, :, None], 48, axis=0).astype(np.uint8).repeat(3, axis=2)
    assert all(tone_residual(toned(ramp, *stops)) < 0.7 for stops in TONES.values())
    halves = ramp.copy()
    halves[:24] = (halves[:24] * (1.0, 0.6, 0.6)).astype(np.uint8)
    assert tone_residual(halves) > 5


def test_rows_stand_alone(photo, make, one, assert_rows_stand_alone):
    pictures = [photo("six"), photo("astronaut"), photo("cat")]
    needed = make("faces", model="centerface").score(pictures, {})
    assert_rows_stand_alone(one, pictures, {"faces": needed})


def coloured_by_hand(rgb: np.ndarray) -> np.ndarray:
    """Grey, with the colours of the face and of nothing else."""
    out = toned(rgb, *TONES["grey"])
    x1, y1, x2, y2 = map(int, ASTRONAUT)
    out[y1:y2, x1:x2] = rgb[y1:y2, x1:x2]
    return out


def test_colour_in_the_face_alone_is_hand_coloured(photo, picture_of, one):
    colour = photo("astronaut").rgb
    before_paper = np.full_like(colour, 128)  # a backdrop has no colour, the hair and the collar before it have
    before_paper[40:300, 120:330] = colour[40:300, 120:330]
    pictures = [picture_of(rgb) for rgb in (colour, before_paper, coloured_by_hand(colour))]
    evidence = one.score(pictures, {"faces": faces(*[[(0.9, ASTRONAUT)]] * 3)})
    assert min(evidence["residual"].to_pylist()) > 3, "about the face all three have colour"
    assert one.verdict(evidence, TonedThresholds()).tolist() == [PASS, PASS, FAIL]
    assert one.verdict(evidence, TonedThresholds(min_elsewhere=0)).tolist() == [PASS, PASS, PASS]


def test_where_there_is_nothing_but_the_face_nothing_is_said_of_elsewhere(photo, picture_of, one):
    colour = photo("astronaut").rgb
    alone, filling = np.full_like(colour, 255), colour[62:178, 180:271]
    alone[62:178, 180:271] = filling
    boxes = [[(0.9, ASTRONAUT)]], [[(0.9, [0.0, 0.0, 91.0, 116.0])]], [[(0.9, [0.0, 0.0, 512.0, 512.0])]], [[]]
    pictures = [picture_of(rgb) for rgb in (alone, filling, coloured_by_hand(colour), coloured_by_hand(colour))]
    evidence = one.score(pictures, {"faces": faces(*(row for rows in boxes for row in rows))})
    assert evidence["elsewhere"].to_pylist() == [None] * 4
    assert one.verdict(evidence, TonedThresholds(min_residual=0)).tolist() == [PASS] * 4


def test_a_large_picture_is_measured_in_a_smaller_view(photo, picture_of, one):
    colour = photo("astronaut").rgb
    large = picture_of(coloured_by_hand(colour).repeat(3, axis=0).repeat(3, axis=1))
    needed = faces([(0.9, [3 * value for value in ASTRONAUT])], [(0.9, ASTRONAUT)])
    small = picture_of(coloured_by_hand(colour))
    assert one.score([large, small], {"faces": needed})["elsewhere"].to_pylist() == pytest.approx([0, 0], abs=0.1)


def test_verdict_is_of_evidence_and_threshold_alone(one):
    residual, elsewhere = [1.9, 2.0, None, 9.0, 9.0], [None, 2.0, None, None, 0.4]
    evidence = pa.table({"residual": pa.array(residual, pa.float32()), "elsewhere": pa.array(elsewhere, pa.float32())})
    assert one.verdict(evidence, TonedThresholds(min_residual=2)).tolist() == [FAIL, PASS, UNKNOWN, PASS, FAIL]
    assert one.verdict(evidence, TonedThresholds(min_residual=5)).tolist() == [FAIL, FAIL, UNKNOWN, PASS, FAIL]
    looser = TonedThresholds(min_residual=2, min_elsewhere=0.4)
    assert one.verdict(evidence, looser).tolist() == [FAIL, PASS, UNKNOWN, PASS, PASS]
    assert one.in_sample(evidence.to_pylist()[3]) == {"tone_residual": 9.0, "colour_elsewhere": "null"}
    assert one.in_sample(evidence.to_pylist()[1]) == {"tone_residual": 2.0, "colour_elsewhere": "2.0"}


def test_what_is_to_go_and_what_is_a_loss():
    empty = {"drawing": "photo", "keep": "1", "faces": "1", "colour": ""}
    cases = [
        ({"colour": "toned"}, True),
        ({"colour": "grey"}, True),
        ({"colour": "colour"}, False),
        ({"colour": "colour", "keep": "0"}, None),
        ({"colour": "toned", "drawing": "cartoon"}, None),
        ({"colour": "grey", "faces": "0"}, None),
        ({}, None),
    ]
    for label, answer in cases:
        assert Toned.should_reject({**empty, **label}) is answer, label
