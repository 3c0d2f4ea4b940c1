"""The page of a run: what has no number is said and leaves a gap, steps that were done twice count once."""

from __future__ import annotations

import re

import pytest
from PIL import Image

from training.monitoring.run_log import RunLog
from training.monitoring.run_page import (
    BOTTOM,
    HEIGHT,
    LEFT,
    POINTS,
    RIGHT,
    TOP,
    WIDTH,
    by_step,
    chart_of,
    thinned,
    write_page,
)
from training.recipe import load_recipe

SAYS = {"likeness": "cosine", "likeness_others": "with another's", "copy_paste": "1 a copy", "clip_t": "no CLIP here"}


@pytest.fixture
def run(tmp_path):
    log = RunLog(str(tmp_path), 0)
    for step, likeness, copied in ((0, 0.1, None), (10, 0.5, 0.2), (20, 0.9, 0.7), (20, 0.4, 0.6), (30, 0.3, 0.8)):
        log.write("evaluation", step, likeness=likeness, likeness_others=0.1, copy_paste=copied, clip_t=None, says=SAYS)
        log.write("train", step, loss=1.0 / (step + 1))
        log.picture("held-out", step, Image.new("RGB", (8, 8)))
    log.close()
    return tmp_path


def test_the_page_needs_nothing_but_itself_and_says_what_is_missing(run):
    write_page(run, load_recipe("tiny"))
    page = (run / "run.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:)|https?://', page)
    assert "0.300 at step 30; highest 0.500 at step 10" in page and "0.800 at step 30" in page
    assert "<li>clip t: no CLIP here" in page and "dashed: with another person" in page
    assert "training loss" in page and "fixed-noise loss" not in page, "no row has one"
    assert "Step 30: the photo, its pose map, its own caption</h3>" in page


def test_a_run_that_is_not_evaluated_says_so(tmp_path):
    log = RunLog(str(tmp_path), 0)
    log.write("validation", 0, loss=0.5)
    log.close()
    write_page(tmp_path, load_recipe("authors"))
    page = (tmp_path / "run.html").read_text()
    assert "<code>evaluation.every</code> is 0" in page and "fixed-noise loss" in page


def test_of_steps_that_were_done_twice_the_later_counts():
    rows = [
        {"kind": "evaluation", "step": step, "a": value} for step, value in ((0, 1.0), (20, 2.0), (10, 3.0), (20, 4.0))
    ]
    assert by_step(rows, "a") == {0: 1.0, 10: 3.0, 20: 4.0} and list(by_step(rows, "a")) == [0, 10, 20]


def test_what_has_no_number_is_a_gap_and_never_zero():
    chart = chart_of("copy_paste", "", {0: None, 10: 0.5, 20: None, 30: 0.7, 40: 0.9}, {10: 0.6})
    figure, yardstick = chart.lines
    assert (
        [part.count(",") for part in figure.parts] == [1, 2] and len(figure.dots) == 3 and yardstick.kind == "yardstick"
    )
    for x, y, _ in (*figure.dots, *yardstick.dots):
        assert LEFT <= x <= WIDTH - RIGHT and TOP <= y <= HEIGHT - BOTTOM
    assert figure.dots[0][1] > yardstick.dots[0][1] > figure.dots[1][1], "up is a smaller y"


def test_a_long_run_s_loss_is_means_of_neighbours():
    curve = thinned({step: float(step % 2) for step in range(10_000)})
    assert len(curve) == POINTS and max(curve) == 9_999 and set(curve.values()) == {0.5}
