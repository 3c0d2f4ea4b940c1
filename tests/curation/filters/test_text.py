from __future__ import annotations

import io

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common.decode import decode
from curation.filters.engines.ppocr import MEAN, STD, TEXT_FLOOR, OnnxEngine, network_input
from curation.filters.evidence import FAIL, PASS, UNKNOWN
from curation.filters.text import BOX, TextThresholds, area_and_number
from curation.sample.photos import SKIMAGE

MODELS = ("ppocr-v4-mobile-det", "ppocr-v6-small-det")


def box(score: float, x1: float, y1: float, x2: float, y2: float) -> dict:
    return {"score": score, "quad": [x1, y1, x2, y1, x2, y2, x1, y2]}


def table(*rows: list[dict] | None) -> pa.Table:
    return pa.table({"boxes": pa.array(rows, pa.list_(BOX))})


def with_lines(rgb: np.ndarray, number: int) -> np.ndarray:
    out = rgb.copy()
    for line in range(number):
        place = (20, 60 + 60 * line)
        cv2.putText(out, "LOREM IPSUM DOLOR", place, cv2.FONT_HERSHEY_SIMPLEX, 1.4, (255, 255, 255), 12, cv2.LINE_AA)
        cv2.putText(out, "LOREM IPSUM DOLOR", place, cv2.FONT_HERSHEY_SIMPLEX, 1.4, (0, 0, 0), 4, cv2.LINE_AA)
    return out


@pytest.mark.parametrize("model", MODELS)
def test_finds_text_and_only_text(photo, make, picture_of, model):
    portrait = photo("astronaut")
    one = make("text", model=model)
    evidence = one.score([portrait, picture_of(with_lines(portrait.rgb, 3)), photo("page")], {})
    assert one.verdict(evidence, TextThresholds()).tolist() == [PASS, FAIL, FAIL]
    area, boxes = area_and_number(evidence, TextThresholds())
    assert area[0] < 0.005 and 0.1 < area[1] < 0.5
    assert boxes[0] <= 1 and 3 <= boxes[1] <= 9


def test_boxes_are_where_the_text_is(photo, make, picture_of):
    (boxes,) = make("text").score([picture_of(with_lines(photo("astronaut").rgb, 1))], {})["boxes"].to_pylist()
    corners = np.array(boxes[0]["quad"]).reshape(4, 2) * 512
    assert corners[:, 1].min() == pytest.approx(22, abs=12) and corners[:, 1].max() == pytest.approx(65, abs=12)
    assert corners[:, 0].min() == pytest.approx(15, abs=40)


def test_evidence_reaches_down_to_the_floor_and_is_in_order(photo, make):
    (boxes,) = make("text").score([photo("page")], {})["boxes"].to_pylist()
    scores = [found["score"] for found in boxes]
    assert scores == sorted(scores, reverse=True)
    assert TEXT_FLOOR <= scores[-1] < 0.6  # weaker boxes than the default threshold are stored too
    assert all(0 <= share <= 1 for found in boxes for share in found["quad"])


def test_rows_stand_alone(photo, make, picture_of, assert_rows_stand_alone):
    written = with_lines(photo("astronaut").rgb, 2)
    pictures = [picture_of(written), picture_of(written[:, ::-1].copy()), photo("page"), photo("astronaut")]
    assert_rows_stand_alone(make("text"), pictures)


def test_a_batch_of_one_size_changes_no_box(photo, make):
    one = make("text")
    engine = OnnxEngine(one.files["detector"].path, one.settings, "cpu")
    written = with_lines(photo("astronaut").rgb, 2)
    images = [written, written[:, ::-1].copy(), photo("page").rgb, written[::-1].copy()]
    alone = engine(images)
    engine.batched = True  # what a GPU does
    for (quads, scores), (expected, same) in zip(engine(images), alone, strict=True):
        assert np.array_equal(quads, expected)
        assert scores == pytest.approx(same, abs=1e-5)


def test_input_is_standardised_bgr_on_multiples_of_32():
    rgb = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    expected = ((rgb[:, :, ::-1] / 255 - MEAN) / STD).transpose(2, 0, 1)
    assert network_input(rgb) == pytest.approx(expected, abs=1e-5)
    assert network_input(np.zeros((100, 40, 3), np.uint8)).shape == (3, 96, 32)
    assert network_input(np.zeros((8, 8, 3), np.uint8)).shape == (3, 32, 32)


def test_runs_on_one_thread(make):
    options = make("text").engine.session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)


def test_settings_are_in_the_fingerprint_and_thresholds_are_not(make):
    prints = [make("text", **settings).fingerprint for settings in ({}, {"max_side": 640}, {"engine": "paddleocr"})]
    assert len({*prints, make("text", model=MODELS[1]).fingerprint}) == 4


def test_overlapping_boxes_are_counted_once(make):
    strip, beside = box(0.9, 0, 0, 0.4, 0.1), box(0.9, 0, 0.2, 0.4, 0.3)
    evidence = table([strip], [strip, strip], [strip, beside], [], None)
    verdict = make("text").verdict(evidence, TextThresholds(max_area=0.05, max_line=0.3))
    assert verdict.tolist() == [PASS, PASS, FAIL, PASS, UNKNOWN]
    assert area_and_number(evidence, TextThresholds())[0].tolist() == pytest.approx([0.04, 0.04, 0.08, 0, 0])


def test_a_blob_is_not_a_line_of_text(make, photo):
    one = make("text", max_side=640)
    evidence = one.score([decode((SKIMAGE.fetch() / "skimage/data/coffee.png").read_bytes())], {})  # a cup
    assert area_and_number(evidence, TextThresholds(max_line=1))[0][0] > 0.2
    assert one.verdict(evidence, TextThresholds()).tolist() == [PASS]


def test_thresholds(make):
    evidence = table([box(0.9, 0, 0, 1, 0.15)], [box(0.5, 0, 0, 1, 0.15)], [box(0.9, 0, 0, 0.01, 0.01)] * 3)
    one = make("text")
    assert one.verdict(evidence, TextThresholds()).tolist() == [FAIL, PASS, PASS]
    assert one.verdict(evidence, TextThresholds(min_confidence=0.5)).tolist() == [FAIL, FAIL, PASS]
    assert one.verdict(evidence, TextThresholds(max_area=0.16)).tolist() == [PASS, PASS, PASS]
    assert one.verdict(evidence, TextThresholds(max_line=0.1)).tolist() == [PASS, PASS, PASS]
    assert one.verdict(evidence, TextThresholds(max_boxes=2)).tolist() == [FAIL, PASS, FAIL]
    assert one.verdict(evidence.slice(0, 0), TextThresholds()).tolist() == []


def test_evidence_survives_parquet_and_slices(make):
    evidence = table(None, [box(0.9, 0, 0, 0.5, 0.1)], [], None, [box(0.8, 0, 0, 0.1, 0.1)] * 2)
    buffer = io.BytesIO()
    pq.write_table(evidence, buffer)
    back = pa.concat_tables([pq.read_table(buffer), evidence]).slice(1)
    assert back.schema.equals(evidence.schema)
    verdict = make("text").verdict(back, TextThresholds()).tolist()
    assert verdict == [FAIL, PASS, UNKNOWN, PASS, UNKNOWN, FAIL, PASS, UNKNOWN, PASS]
