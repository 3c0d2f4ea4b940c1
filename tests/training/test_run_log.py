"""What is written of a run, on a disk and in a bucket, where files cannot grow."""

from __future__ import annotations

import json
import time

import pytest
import s3fs
from PIL import Image

import training.launch.process
from tests.bucket import s3_bucket
from tests.training.ranks import recipe_for, start_ranks
from training import run_log as records
from training.checkpoint import Checkpoints
from training.launch.process import Ask, ask_to_stop, forget_stop, stop_on_file
from training.launch.view import Tail, View
from training.run_log import Records


@pytest.fixture(scope="module")
def bucket():
    with s3_bucket("trained"):
        yield "s3://trained"


def lines(place):
    fs = s3fs.S3FileSystem(skip_instance_cache=True)
    return [json.loads(line) for line in fs.cat_file(f"{place}/log.jsonl").splitlines()]


def test_a_log_goes_on_where_it_was(tmp_path):
    for step in (1, 2):
        told = Records(str(tmp_path), 0)
        told.write("train", step, loss=float("nan"), by_timestep=[0.5, 0.25])
        told.close()
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2] and rows[0]["loss"] is None
    assert len(list((tmp_path / "tensorboard").iterdir())) == 2


def test_only_rank_0_writes(tmp_path):
    told = Records(str(tmp_path / "run"), 1)
    told.write("train", 1, loss=0.5)
    told.close()
    assert told.folder is None and not (tmp_path / "run").exists()


def test_in_a_bucket_it_is_uploaded_now_and_then_and_goes_on_after_a_kill(bucket, monkeypatch):
    monkeypatch.setattr(records, "UPLOAD_EVERY", 0.1)
    killed = Records(f"{bucket}/log", 0)
    killed.write("train", 1, loss=0.5)
    killed.picture("panel", 1, Image.new("RGB", (8, 8)))
    deadline = time.monotonic() + 30
    fs = s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)
    while not fs.exists("trained/log/pictures/panel-000000001.png"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    again = Records(f"{bucket}/log", 0)  # and the first was never closed
    again.write("train", 2, loss=0.25)
    (again.folder / "export").mkdir()
    (again.folder / "export" / "weights").write_bytes(b"1")
    scratch = again.folder
    again.close()
    assert [row["step"] for row in lines(f"{bucket}/log")] == [1, 2]
    assert fs.cat_file("trained/log/export/weights") == b"1" and not scratch.exists()
    killed._store._ended.set()


def test_what_may_be_the_last_line_is_uploaded_at_once(bucket, monkeypatch):
    monkeypatch.setattr(records, "UPLOAD_EVERY", 1e6)
    told = Records(f"{bucket}/last", 0)
    told.write("train", 1, loss=0.5)
    told.write("diverged", 1, loss="nan", ids=["a"])
    assert [row["kind"] for row in lines(f"{bucket}/last")] == ["train", "diverged"]
    told.close()


def test_a_store_that_fails_for_a_moment_does_not_end_the_run(bucket, monkeypatch, caplog):
    monkeypatch.setattr(records, "UPLOAD_EVERY", 1e6)
    told = Records(f"{bucket}/moment", 0)
    with monkeypatch.context() as broken:
        broken.setattr(told._store.fs, "put_file", lambda *_: (_ for _ in ()).throw(OSError("no route")))
        told.write("checkpoint", 1)
    assert "no route" in caplog.text
    told.close()
    assert [row["kind"] for row in lines(f"{bucket}/moment")] == ["checkpoint"]


def test_a_run_with_everything_in_a_bucket_stops_and_goes_on(bucket, shards, base, tmp_path):
    out = f"{bucket}/run"
    recipe = recipe_for(shards, base, steps=3, saving__every=2, saving__export=True)
    for steps in (2, 3):
        (rank,), answers = start_ranks(recipe.model_copy(update={"steps": steps}), out)
        assert answers.get(timeout=300) == ""
        rank.join(timeout=60)
    rows = lines(out)
    assert [(row["kind"], row["step"]) for row in rows if row["kind"] in ("started", "train")] == [
        ("started", 0), ("train", 1), ("train", 2), ("started", 2), ("train", 3)
    ]  # fmt: skip
    assert [saved.step for saved in Checkpoints(out, 0, 1, 2).all()] == [2, 3]
    fs = s3fs.S3FileSystem(skip_instance_cache=True)
    assert fs.exists("trained/run/export/pipeline/model_index.json") and fs.ls("trained/run/tensorboard")


def test_the_stop_file_is_seen_and_forgotten_on_a_disk_and_in_a_bucket(bucket, tmp_path, monkeypatch):
    for out in (str(tmp_path / "run"), f"{bucket}/stops"):
        monkeypatch.setattr(training.launch.process, "STOP_POLL", 1e6 if out.startswith("s3") else 0.0)
        ask_to_stop(out)
        assert stop_on_file(out, 1)(1) == Ask.NOTHING  # rank 0 looks for all
        if out.startswith("s3"):
            assert stop_on_file(out, 0)(1) == Ask.NOTHING  # asked by time, not by step
            monkeypatch.setattr(training.launch.process, "STOP_POLL", 0.0)
        assert stop_on_file(out, 0)(1) == Ask.STOP
        forget_stop(out)
        assert stop_on_file(out, 0)(2) == Ask.NOTHING


# -- seen from elsewhere ----------------------------------------------------------------------------------------------


def test_a_tail_gives_whole_new_lines_and_nothing_from_before(bucket, tmp_path):
    for out in (str(tmp_path), f"{bucket}/tail"):
        before = Records(out, 0)
        before.write("train", 1, loss=0.5)
        before.close()
        tail = Tail(f"{out}/log.jsonl")
        assert tail.rows() == []
        after = Records(out, 0)
        after.write("train", 2, loss=0.5)
        after.close()
        assert [row["step"] for row in tail.rows()] == [2] and tail.rows() == []
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"kind": "tra')
        log.flush()
        tail = Tail(str(tmp_path / "log.jsonl"))
        tail.offset = (tmp_path / "log.jsonl").stat().st_size - 13
        assert tail.rows() == []
        log.write('in", "step": 3}\n')
    assert [row["step"] for row in tail.rows()] == [3]


def test_the_time_left_is_of_the_steps_since_the_last_start(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr("common.progress.time.monotonic", lambda: now[0])
    monkeypatch.setattr("common.progress.LINE_EVERY", 0.0)
    view = View(100)

    def row(kind, step, at):
        now[0] = at
        view.row({"kind": kind, "step": step, "world": 2, "hosts": ["a", "a"], "loss": 0.5, "data_wait": 0.0})

    row("started", 0, 0)
    for step in range(1, 31):
        row("train", step, step)  # a second a step, then a kill, an hour of nothing, and steps of two seconds
    row("started", 20, 3600)
    for step in range(21, 41):
        row("train", step, 3600 + 2 * step)
    last = " ".join(capsys.readouterr().err.split()).rpartition("train")[2]
    assert "40 of 100 steps" in last and "0.5 steps/s" in last and "2 min left" in last
