"""A run is followed from step to step: what remains is summed, what nobody knows is said, and no notice ends a run."""

from __future__ import annotations

import io
import json
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console

import common.progress
from common.progress import ProgressBar, say
from curation.progress import follow, outlook
from curation.progress.follow import Follower
from curation.progress.shown import line_of, table_of, whole
from curation.run_directory.driver import Overtaken
from curation.run_directory.run import Run
from tests.servers.bucket import s3_bucket

STEPS = ("select", "fetch", "score", "cut", "annotate", "pack")
SELECTED = {
    "candidates": 2000, "wanted": 800, "selected": 1000, "key": "box_min_side", "rank_over": "available",
    "cutoff": 10.0, "digest": "00",
}  # fmt: skip


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """One core, a short beat, and what is said."""
    said = io.StringIO()
    monkeypatch.setattr(common.progress, "console", Console(file=said, width=200, highlight=False, soft_wrap=True))
    monkeypatch.setattr(outlook, "cores", lambda: 1.0)
    monkeypatch.setattr(follow, "EVERY", {True: 0.02, False: 0.02})
    return said


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.now = 1000.0
        monkeypatch.setattr("common.progress.time.monotonic", lambda: self.now)


def selected(run: Run) -> None:
    run.write_json("selected/counts.json", SELECTED)


def advance(clock: Clock, bar: ProgressBar, count: int, seconds: float) -> None:
    clock.now += seconds
    bar.advance(count)


def test_what_remains_is_the_measured_step_and_what_is_expected_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run, clock = Run(tmp_path), Clock(monkeypatch)
    with Follower(run, "small", STEPS) as follower:
        follower.begin("select")
        assert follower.progress().seconds_left is None
        assert follower.progress().unknown == "until fetch has begun" or "select" in follower.progress().unknown
        selected(run)
        follower.begin("fetch")
        told = follower.progress()
        assert told.current.total == 1000 and told.unknown == "while fetch is measured"
        with ProgressBar("fetch", 1000) as bar:
            advance(clock, bar, 100, 10)
            advance(clock, bar, 100, 5)
            told = follower.progress()
            assert told.current.per_second == pytest.approx(20) and told.current.seconds_left == pytest.approx(40)
            # at most the 800 that are wanted go on; whose speed that is, is said
            rest = 800 * sum(outlook.CORE_SECONDS.values())
            assert told.seconds_left == pytest.approx(40 + rest) and told.at_most
            assert "at most" in whole(told) and "score, cut, annotate, pack by a default" in whole(told)
            assert line_of(told).startswith("200 of 1,000 images, 20.0 images/s, 40 s left; all steps: at most ")
            advance(clock, bar, 800, 40)
        with ProgressBar("fetch", 50):  # a second round: all but those that are tried again are done
            assert follower.progress().current.done == 950 and follower.progress().current.total == 1000


def test_the_forecast_of_the_run_is_used_where_a_step_has_not_begun(tmp_path: Path):
    run = Run(tmp_path)
    selected(run)
    images = {"select": 1000, "fetch": 1000, "score": 500, "cut": 500, "annotate": 100, "pack": 100}
    steps = [
        {"step": step, "images": {"value": count}, "held_core_seconds_an_image": 2.0} for step, count in images.items()
    ]
    run.write_json("forecast.json", {"steps": steps})
    with Follower(run, "small", STEPS) as follower:
        follower.begin("fetch")
        told = follower.progress()
        assert [step.total for step in told.steps[1:]] == [1000, 500, 500, 100, 100]
        assert told.seconds_left == pytest.approx(2.0 * 2200) and not told.at_most
        assert {step.basis for step in told.steps[1:]} == {"forecast"}


@pytest.mark.parametrize("text", ["{", '{"steps": [{"step": "score"}]}', '{"steps": [{"step": "score", "images": 3}]}'])
def test_a_forecast_that_cannot_be_read_ends_no_run(tmp_path: Path, quiet: io.StringIO, text: str):
    run = Run(tmp_path)
    selected(run)
    run.write_bytes("forecast.json", text.encode())
    with Follower(run, "small", STEPS) as follower:
        follower.begin("score")
        assert follower.progress().steps[3].basis == "default"
    assert quiet.getvalue().count("what remains cannot be reckoned") == 1


def test_others_read_in_progress_json_how_far_it_is_and_how_it_ended(tmp_path: Path):
    run = Run(tmp_path)
    selected(run)
    with Follower(run, "small", STEPS) as follower:
        follower.begin("score")
        with ProgressBar("score", 800) as bar:
            bar.advance(200)
            seen = _read_until(run, lambda told: told["steps"][2]["done"] == 200)
            assert seen["state"] == "running" and seen["step"] == "score" and seen["cut"] == "small"
            assert seen["steps"][2]["total"] == 800 and seen["steps"][3]["state"] == "waiting"
    ended = run.read_json("progress.json")
    assert ended["state"] == "done" and ended["seconds_left"] == 0
    assert [step["state"] for step in ended["steps"]] == ["done"] * 6 and ended["steps"][2]["done"] == 200
    for error, state in ((ValueError("x"), "failed"), (KeyboardInterrupt(), "interrupted")):
        with pytest.raises(type(error)), Follower(run, "small", STEPS):
            raise error
        assert run.read_json("progress.json")["state"] == state
    assert run.sweep() == [] and not list(tmp_path.glob(".*"))


def test_the_last_word_of_a_driver_that_was_overtaken_is_not_written_over_anothers(tmp_path: Path):
    run = Run(tmp_path)
    with pytest.raises(Overtaken), Follower(run, "small", STEPS) as follower:
        _read_until(run, lambda told: told["state"] == "running")
        follower._ended.set()  # it writes no more by itself
        follower._writer.join()
        run.write_json("progress.json", {"state": "another's"})
        raise Overtaken("another")
    assert run.read_json("progress.json") == {"state": "another's"}


def test_where_it_cannot_be_written_that_is_said_once_and_the_run_goes_on(tmp_path: Path, quiet: io.StringIO):
    run = Run(tmp_path)
    (tmp_path / "progress.json").mkdir()  # nothing can replace a folder
    with Follower(run, "small", STEPS) as follower:
        time.sleep(0.3)
        assert quiet.getvalue().count("progress.json cannot be written") == 1
        (tmp_path / "progress.json").rmdir()
        _read_until(run, lambda told: told["state"] == "running")
        follower.begin("pack")
    assert run.read_json("progress.json")["state"] == "done"


def test_a_sweep_leaves_what_a_thread_of_this_process_writes(tmp_path: Path):
    run, stop, failed = Run(tmp_path), threading.Event(), []

    def write() -> None:
        while not stop.is_set():
            try:
                run.write_bytes("progress.json", b"{}")
            except OSError as error:
                failed.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    (tmp_path / ".left.0.tmp").write_bytes(b"")
    swept = [path for _ in range(200) for path in run.sweep()]
    stop.set()
    writer.join()
    assert swept == [str(tmp_path / ".left.0.tmp")] and not failed


def test_in_a_bucket_too(monkeypatch: pytest.MonkeyPatch):
    with s3_bucket("follow"):
        run = Run("s3://follow/run")
        with Follower(run, "small", STEPS):
            _read_until(run, lambda told: told["state"] == "running")
        assert run.read_json("progress.json")["state"] == "done"


def test_a_log_gets_a_line_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quiet: io.StringIO):
    run, clock = Run(tmp_path), Clock(monkeypatch)
    selected(run)
    with Follower(run, "small", STEPS) as follower:
        follower.begin("score")
        with ProgressBar("score", 800) as bar:
            for _ in range(20):
                advance(clock, bar, 10, 1)
    lines = [line for line in quiet.getvalue().splitlines() if "images/s" in line]
    assert len(lines) in (1, 2)
    assert lines[0].split("  ", 3)[-1].startswith("100 of 800 images, 10.0 images/s, 70 s left; all steps: at most ")


def test_a_terminal_gets_a_table_and_what_is_said_stands_above_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=110, highlight=False, soft_wrap=True)
    monkeypatch.setattr(common.progress, "console", console)
    monkeypatch.setattr(follow, "console", console)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    run = Run(tmp_path)
    selected(run)
    with Follower(run, "small", STEPS) as follower:
        follower.begin("score")
        with ProgressBar("score", 800) as bar:
            bar.advance(200)
            say("score", "a [word] of a step")
            time.sleep(0.7)
    text = shown.getvalue()
    assert "200 / 800 images" in text and "a [word] of a step\n" in text and "\N{CHECK MARK}" in text
    plain = Console(file=io.StringIO(), width=110)
    plain.print(table_of(follower.progress()))
    assert "took" in plain.file.getvalue()


def _read_until(run: Run, holds) -> dict:
    until = time.monotonic() + 20
    while True:
        if run.exists("progress.json"):
            told = json.loads(run.read_bytes("progress.json"))
            if holds(told):
                return told
        assert time.monotonic() < until, "progress.json never said so"
        time.sleep(0.02)
