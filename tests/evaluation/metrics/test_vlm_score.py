"""VLM-score: what is read out of an answer, as published and whatever stands around it; tiny models that are really asked."""

from __future__ import annotations

import sys

import pandas as pd
import pytest
import torch
from transformers import GenerationConfig

from common.storage import Storage
from evaluation.metrics.base import Pair, Sources, Unavailable
from evaluation.metrics.networks import image_text
from evaluation.metrics.vlm_score import PROMPT, VlmScore, published_score, score_of
from evaluation.score import score
from evaluation.sets import open_method, open_references
from evaluation.table import column_of
from tests.evaluation.vlm_twins import llava_twin, qwen_twin
from tests.real_photos import photo  # noqa: F401  (a fixture)

FENCED = '```json\n{"score": 85}\n```'


@pytest.fixture(autouse=True)
def _few_words(monkeypatch):
    assert image_text.LONGEST == 128
    monkeypatch.setattr(image_text, "LONGEST", 12)


@pytest.fixture(scope="module")
def metric(tmp_path_factory):
    return VlmScore(Sources(models={"vlm": str(qwen_twin(tmp_path_factory.mktemp("twins") / "qwen-twin"))}))


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ('{"score": 85}', 85), (FENCED, 85), ('{"score": "85"}', 85), ('{"score": "85/100"}', 85), ("85", 85),
        ('Sure! {"score": 85} I hope that this helps.', 85), ("I would say 85 out of 100.", 85), ('{"Score": 85.5}', 85.5),
        ("**Score**: 85/100, for it has 2 eyes", 85), ('{"why": {"light": 3}, "score": 7}', 7), ("{} {'score': 85}", 85),
        ("On a scale of 0-100 it is 85.", 85), ('{"score": 0}', 0), ("The score is 85%", 85), ('{"score": 8.5e1}', 85),
        ("It has 2 eyes: 85/100.", 85), ("**85**", 85), ("This face looks real.", None), ("I see 2 eyes.", None), ("", None), ('{"score": null}', None), ('{"score": 850}', None),
        ("between 80 and 90", None), ('{"rating": 80, "of": 90}', None), ("score: 80, no, score: 90", None),
        ('{"score": "high"}', None), ('{"score": NaN}', None), ("-5", None),
    ],
)  # fmt: skip
def test_a_score_is_read_whatever_stands_around_it(answer, score):
    assert score_of(answer) == score


@pytest.mark.parametrize(
    ("answer", "score", "stops"),
    [
        (' {"score": 85}\n', 85, ""), ('{"score": 850}', 850, ""), (FENCED, None, ""), ("I would say 85.", None, ""),
        ('{"rating": 85}', None, ""), ('{"score": null}', None, ""), ("85", None, "the answer '85' is no JSON object"),
        ("[85]", None, "the answer '[85]' is no JSON object"), ('{"score": "85"}', None, "the score '85' is no number"),
    ],
)  # fmt: skip
def test_the_published_script_reads_bare_json_and_ends_at_a_bare_number_or_a_string(answer, score, stops):
    assert published_score(answer) == (score, stops)


class Says:
    """Answers what it is told to, a picture after the other; of ways to answer it has one."""

    draws = False

    def __init__(self, *answers):
        self._answers = iter(answers)

    def answer(self, rgb, prompt, seed=None):
        assert prompt == PROMPT.read_text().strip() and "0-100" in prompt
        return next(self._answers)


def table_of(metric, sets, out, *answers):
    """The cells of two pictures, of which the model says `answers`, and the rows behind them."""
    metric._asked = Says(*answers, '{"score": 1}')  # another photo of one of them is looked at last
    references = open_references(sets.references)
    (scored,) = score({metric.name: metric}, [open_method("copies", sets.copies, references)], Storage(out), Sources())
    cells = {
        (figure.title, figure.protocol): column_of(figure, scored, [open_method("copies", sets.copies, references)])
        for figure in metric.figures()
    }
    return {name: column.cells["copies"] for name, column in cells.items()}, scored.rows


@pytest.fixture
def fresh(metric):
    return VlmScore(Sources(models={"vlm": str(metric._asked.folder)}))


def test_prose_is_counted_and_listed_and_never_dropped(fresh, sets, tmp_path):
    cells, rows = table_of(fresh, sets, tmp_path, FENCED, "What a lovely face!")
    sound, read = cells["VLM-score", "sound"], cells["VLM answers read", "sound"]
    published = cells["VLM-score", "reconstructed"]
    assert sound.estimate.value == 85 and sound.left_out == 1 and read.estimate.value == 0.5
    assert published.estimate is None and published.left_out == 2, "the fence is lost there, without a word"
    (listed,) = rows[rows["error"] != ""]["error"]
    assert listed == "the answer holds no score: 'What a lovely face!'"
    assert "What a lovely face!" in set(rows["answer"]) and len(rows) == 2


def test_skipped_answers_move_the_published_figure_and_a_string_ends_it(fresh, metric, sets, tmp_path):
    cells, _ = table_of(fresh, sets, tmp_path / "one", '{"score": 90}', "```\n{'score': 10}\n```")
    assert cells["VLM-score", "sound"].estimate.value == 50 and cells["VLM-score", "reconstructed"].estimate.value == 90
    cells, _ = table_of(fresh, sets, tmp_path / "other", '{"score": 90}', '{"score": "10"}')
    assert cells["VLM-score", "sound"].estimate.value == 50 and cells["VLM-score", "reconstructed"].estimate is None
    assert cells["VLM-score", "reconstructed"].why.endswith("the score '10' is no number")


def test_a_missing_picture_has_no_answer_and_ends_nothing(fresh):
    row = {"stops": float("nan"), "error": "not drawn"}
    (stops,) = [figure.stops for figure in fresh.figures() if figure.protocol == "reconstructed"]
    assert stops(row) == "" and pd.isna(row["stops"])


def test_qwen_is_really_asked_without_torchvision_and_says_the_same_twice(metric, photo):  # noqa: F811
    rgb = photo("cat").rgb
    told = metric.features(rgb)
    assert told["answer"] and told == metric.features(rgb), "its settings draw nothing"
    assert told["published_answer"] == told["answer"] and metric._asked.draws is False
    assert "torchvision" not in sys.modules
    inputs = metric._asked._qwen_inputs(rgb, "a")
    assert inputs["mm_token_type_ids"].sum() == inputs["image_grid_thw"].prod() // 4
    assert metric.scores(Pair({}, told))["answer"] == told["answer"]


def test_an_answer_that_the_model_s_settings_draw_is_another_but_the_same_again(tmp_path, photo):  # noqa: F811
    drawing = GenerationConfig(do_sample=True, temperature=5.0, top_k=50)
    metric = VlmScore(Sources(models={"vlm": str(qwen_twin(tmp_path, drawing))}))
    rgb, before = photo("cat").rgb, torch.random.get_rng_state()
    told = metric.features(rgb)
    assert told["answer"] != told["published_answer"] and told == metric.features(rgb)
    assert torch.equal(before, torch.random.get_rng_state()), "nobody else's draws change"


def test_any_other_model_answers_through_its_own_processor(tmp_path, photo):  # noqa: F811
    metric = VlmScore(Sources(models={"vlm": str(llava_twin(tmp_path / "llava-twin"))}))
    told = metric.features(photo("cat").rgb)
    assert told["answer"] and "llava-twin" in metric.figures()[0].says


def test_what_cannot_be_loaded_has_a_reason(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(Unavailable, match="hf download Qwen/Qwen2-VL-7B-Instruct.*--model-of vlm=FOLDER"):
        VlmScore(Sources())
    (tmp_path / "config.json").write_text('{"model_type": "no-such-model"}')
    with pytest.raises(Unavailable, match="transformers cannot open it here: .*no-such-model"):
        VlmScore(Sources(models={"vlm": str(tmp_path)}))
