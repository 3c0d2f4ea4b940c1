"""A run's log is followed while it is written, and the time that is left is shown."""

from __future__ import annotations

import pytest

from tests.servers.bucket import s3_bucket
from training.launch.log_view import LogTail, LogView, evaluation_text, following_log
from training.monitoring.run_log import RunLog


@pytest.fixture(scope="module")
def bucket():
    with s3_bucket("followed"):
        yield "s3://followed"


def test_a_tail_gives_whole_new_lines_and_nothing_from_before(bucket, tmp_path):
    for out in (str(tmp_path), f"{bucket}/tail"):
        before = RunLog(out, 0)
        before.write("train", 1, loss=0.5)
        before.close()
        tail = LogTail(f"{out}/log.jsonl")
        assert tail.rows() == []
        after = RunLog(out, 0)
        after.write("train", 2, loss=0.5)
        after.close()
        assert [row["step"] for row in tail.rows()] == [2] and tail.rows() == []
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"kind": "tra')
        log.flush()
        tail = LogTail(str(tmp_path / "log.jsonl"))
        tail.offset = (tmp_path / "log.jsonl").stat().st_size - 13
        assert tail.rows() == []
        log.write('in", "step": 3}\n')
    assert [row["step"] for row in tail.rows()] == [3]


def test_the_last_line_of_a_run_is_shown_too(tmp_path, capsys):
    with following_log(str(tmp_path), 3):
        log = RunLog(str(tmp_path), 0)
        log.write("validation", 3, loss=0.25)
        log.close()
    assert "step 3: fixed-noise loss 0.2500" in capsys.readouterr().err


def test_what_was_drawn_from_held_out_photos_is_one_line():
    says = {"facesim_dlib": "", "facesim_dlib_others": "", "copy_paste_dlib": "nobody's other photo"}
    row = {"facesim_dlib": 0.5, "facesim_dlib_others": 0.25, "copy_paste_dlib": None, "says": says}
    assert evaluation_text(row) == "held-out photos: facesim dlib 0.500 (another's 0.250)"
    assert evaluation_text({"failed": "no memory"}).endswith("the run goes on: no memory")


def test_the_time_left_is_of_the_steps_since_the_last_start(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr("common.progress.time.monotonic", lambda: now[0])
    monkeypatch.setattr("common.progress.LINE_EVERY", 0.0)
    view = LogView(100)

    def row(kind, step, at):
        now[0] = at
        view.show({"kind": kind, "step": step, "world": 2, "hosts": ["a", "a"], "loss": 0.5, "data_wait": 0.0})

    row("started", 0, 0)
    for step in range(1, 31):
        row("train", step, step)  # a second a step, then a kill, an hour of nothing, and steps of two seconds
    row("started", 20, 3600)
    for step in range(21, 41):
        row("train", step, 3600 + 2 * step)
    last = " ".join(capsys.readouterr().err.split()).rpartition("train")[2]
    assert "40 of 100 steps" in last and "0.5 steps/s" in last and "2 min left" in last
