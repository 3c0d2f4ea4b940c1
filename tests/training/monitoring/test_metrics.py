"""What stands in a line of the log, and where a trace is written."""

from __future__ import annotations

import pytest
import torch

from model.config import load_config
from tests.training.ranks import recipe_for, run_ranks
from training.monitoring import metrics as meter_module
from training.monitoring.metrics import Meter
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
        meter.step(0.5)
        meter.took(loss, 0.25)
    line = meter.line(2)
    assert line["loss"] == 2.0 and line["grad_norm"] == 0.25 and line["data_wait"] == 0.25
    assert line["images_per_second"] == 4.0
    assert line["tflops_per_second"] == pytest.approx(4 * flops_of(load_config("tiny")).step / 1e12)
    assert line["mfu"] is None, "a CPU's peak is not known"
    clock[0] += 1.0
    meter.step(0.0)
    meter.took(5.0, 0.0)
    assert meter.line(3)["loss"] == 5.0 and meter.losses == []


def test_what_is_looked_at_between_steps_is_no_part_of_their_speed(tmp_path, clock):
    meter = Meter(recipe_for(tmp_path, tmp_path, batch__size=8), load_config("tiny"), torch.device("cpu"), 1)
    clock[0] += 2.0
    meter.step(0.0)
    meter.took(1.0, 1.0)
    with meter.aside():
        clock[0] += 100.0
    assert meter.line(1)["images_per_second"] == 4.0


def test_a_norm_of_an_update_that_was_skipped_is_in_no_mean(tmp_path, clock):
    meter = Meter(recipe_for(tmp_path, tmp_path, batch__size=8), load_config("tiny"), torch.device("cpu"), 1)
    for norm in (float("inf"), 2.0, 4.0):
        clock[0] += 1.0
        meter.step(0.0)
        meter.took(1.0, norm)
    assert meter.line(3)["grad_norm"] == 3.0
    clock[0] += 1.0
    meter.step(0.0)
    meter.took(1.0, float("inf"))
    assert meter.line(4)["grad_norm"] is None


def test_mfu_is_of_all_ranks_peaks(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(meter_module, "peak_flops", lambda device, dtype: 1e12)
    meter = Meter(recipe_for(tmp_path, tmp_path, batch__size=8), load_config("tiny"), torch.device("cpu"), 4)
    clock[0] += 1.0
    meter.step(0.0)
    meter.took(1.0, 1.0)
    line = meter.line(1)
    assert line["mfu"] == pytest.approx(line["tflops_per_second"] / 4)


def test_a_trace_of_the_steps_that_were_asked_for(shards, base, tmp_path):
    run_ranks(recipe_for(shards, base, steps=8, monitoring__profile_steps=2), tmp_path)
    (trace,) = (tmp_path / "profile").glob("trace-*.json")
    text = trace.read_text()
    assert "convolution" in text and text.count('"name": "ProfilerStep#') >= 2
    assert "aten::" in (tmp_path / "profile" / "operators-000.txt").read_text()
