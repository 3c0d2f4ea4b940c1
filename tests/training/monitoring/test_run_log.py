"""What is written of a run, on a disk and in a bucket, where files cannot grow."""

from __future__ import annotations

import gc
import json
import time

import pytest
import s3fs
from PIL import Image

from tests.servers.bucket import s3_bucket
from tests.training.ranks import recipe_for, start_ranks
from training.checkpoint import Checkpoints
from training.monitoring import run_log as records
from training.monitoring.run_log import RunLog


@pytest.fixture(scope="module")
def bucket():
    with s3_bucket("trained"):
        yield "s3://trained"


def lines(place):
    fs = s3fs.S3FileSystem(skip_instance_cache=True)
    return [json.loads(line) for line in fs.cat_file(f"{place}/log.jsonl").splitlines()]


def test_a_log_goes_on_where_it_was(tmp_path):
    for step in (1, 2):
        told = RunLog(str(tmp_path), 0)
        told.write("train", step, loss=float("nan"), by_timestep=[0.5, 0.25])
        told.close()
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2] and rows[0]["loss"] is None
    assert len(list((tmp_path / "tensorboard").iterdir())) == 2


def test_only_rank_0_writes(tmp_path):
    told = RunLog(str(tmp_path / "run"), 1)
    told.write("train", 1, loss=0.5)
    told.close()
    assert told.folder is None and not (tmp_path / "run").exists()


def test_in_a_bucket_it_is_uploaded_now_and_then_and_goes_on_after_a_kill(bucket, monkeypatch):
    monkeypatch.setattr(records, "UPLOAD_EVERY", 0.1)
    killed = RunLog(f"{bucket}/log", 0)
    killed.write("train", 1, loss=0.5)
    killed.picture("panel", 1, Image.new("RGB", (8, 8)))
    deadline = time.monotonic() + 30
    fs = s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)
    while not fs.exists("trained/log/pictures/panel-000000001.png"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    again = RunLog(f"{bucket}/log", 0)  # and the first was never closed
    again.write("train", 2, loss=0.25)
    (again.folder / "export").mkdir()
    (again.folder / "export" / "weights").write_bytes(b"1")
    scratch = again.folder
    again.close()
    assert [row["step"] for row in lines(f"{bucket}/log")] == [1, 2]
    assert fs.cat_file("trained/log/export/weights") == b"1" and not scratch.exists()
    killed._uploader._ended.set()
    left = killed.folder
    del killed  # as where a run ends by an error
    gc.collect()
    assert not left.exists()


def test_what_may_be_the_last_line_is_uploaded_at_once(bucket, monkeypatch):
    monkeypatch.setattr(records, "UPLOAD_EVERY", 1e6)
    told = RunLog(f"{bucket}/last", 0)
    told.write("train", 1, loss=0.5)
    told.write("diverged", 1, loss="nan", ids=["a"])
    assert [row["kind"] for row in lines(f"{bucket}/last")] == ["train", "diverged"]
    told.close()


def test_a_store_that_fails_for_a_moment_does_not_end_the_run(bucket, monkeypatch, caplog):
    monkeypatch.setattr(records, "UPLOAD_EVERY", 1e6)
    told = RunLog(f"{bucket}/moment", 0)
    with monkeypatch.context() as broken:
        broken.setattr(told._uploader.fs, "put_file", lambda *_: (_ for _ in ()).throw(OSError("no route")))
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
