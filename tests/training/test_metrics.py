"""What stands in a line of the log, and when a run's loss says that it has collapsed."""

from __future__ import annotations

import pytest
import torch

from model.config import load_config
from tests.training.ranks import recipe_for, run_ranks
from training import metrics as meter_module
from training.metrics import FIRST, WINDOW, Collapse, Meter
from training.planning.flops import flops_of


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(meter_module.time, "monotonic", lambda: now[0])
    return now


def test_a_line_is_of_the_steps_since_the_last_one(tmp_path, clock):
    recipe = recipe_for(tmp_path, tmp_path, batch__size=8)
    meter = Meter(recipe, load_config("tiny"), torch.device("cpu"), 1)
    for loss in (1.0, 3.0):
        clock[0] += 2.0
        meter.step(0.5, loss, 0.25)
    line = meter.line(2)
    assert line["loss"] == 2.0 and line["grad_norm"] == 0.25 and line["data_wait"] == 0.25
    assert line["images_per_second"] == 4.0
    assert line["tflops_per_second"] == pytest.approx(4 * flops_of(load_config("tiny")).step / 1e12)
    assert line["mfu"] is None, "a CPU's peak is not known"
    clock[0] += 1.0
    meter.step(0.0, 5.0, 0.0)
    assert meter.line(3)["loss"] == 5.0 and meter.losses == []


def test_what_is_looked_at_between_steps_is_no_part_of_their_speed(tmp_path, clock):
    meter = Meter(recipe_for(tmp_path, tmp_path, batch__size=8), load_config("tiny"), torch.device("cpu"), 1)
    clock[0] += 2.0
    meter.step(0.0, 1.0, 1.0)
    with meter.aside():
        clock[0] += 100.0
    assert meter.line(1)["images_per_second"] == 4.0


def test_a_norm_of_an_update_that_was_skipped_is_in_no_mean(tmp_path, clock):
    meter = Meter(recipe_for(tmp_path, tmp_path, batch__size=8), load_config("tiny"), torch.device("cpu"), 1)
    for norm in (float("inf"), 2.0, 4.0):
        clock[0] += 1.0
        meter.step(0.0, 1.0, norm)
    assert meter.line(3)["grad_norm"] == 3.0
    clock[0] += 1.0
    meter.step(0.0, 1.0, float("inf"))
    assert meter.line(4)["grad_norm"] is None


def test_mfu_is_of_all_ranks_peaks(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(meter_module, "peak_flops", lambda device, dtype: 1e12)
    meter = Meter(recipe_for(tmp_path, tmp_path, batch__size=8), load_config("tiny"), torch.device("cpu"), 4)
    clock[0] += 1.0
    meter.step(0.0, 1.0, 1.0)
    line = meter.line(1)
    assert line["mfu"] == pytest.approx(line["tflops_per_second"] / 4)


def test_a_loss_that_leaves_where_it_was_is_a_collapse():
    collapse = Collapse(3.0)
    told = [collapse.seen(step, 1.0) for step in range(1, WINDOW + 5)]
    told += [collapse.seen(step, 9.0) for step in range(WINDOW + 5, WINDOW + 12)]
    assert told.index(True) == WINDOW + 4 + 5, "6 of 20 steps at 9 make a mean of more than 3"
    assert collapse.lowest == 1.0 and collapse.at == FIRST


def test_a_run_that_collapses_at_once_is_measured_by_its_first_steps():
    collapse = Collapse(3.0)
    told = [collapse.seen(step, 0.2 if step <= FIRST else 2.0) for step in range(1, WINDOW + 1)]
    assert told == [False] * (WINDOW - 1) + [True]


def test_a_noisy_loss_is_none_and_a_resumed_run_knows_what_it_was():
    generator = torch.Generator().manual_seed(0)
    noisy = Collapse(3.0)
    assert not any(noisy.seen(step, float(torch.rand((), generator=generator))) for step in range(1, 500))
    resumed = Collapse(3.0, lowest=0.1, at=40)
    assert [resumed.seen(step, 1.0) for step in range(1, WINDOW + 1)] == [False] * (WINDOW - 1) + [True]
    assert resumed.facts() == {"lowest_loss": 0.1, "lowest_loss_at": 40}


def test_a_trace_of_the_steps_that_were_asked_for(shards, base, tmp_path):
    run_ranks(recipe_for(shards, base, steps=8, seeing__profile=2), tmp_path)
    (trace,) = (tmp_path / "profile").glob("trace-*.json")
    text = trace.read_text()
    assert "convolution" in text and text.count('"name": "ProfilerStep#') >= 2
    assert "aten::" in (tmp_path / "profile" / "operators-000.txt").read_text()
