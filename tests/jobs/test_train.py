"""jobs/train.py as a user meets it: mistakes said before any work, a Ray job that is killed and stopped, a bucket."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from ray.job_submission import JobSubmissionClient

from common.pinned_files.packages import cache_dir
from jobs import train as job
from model.checkpoints.reading import read
from tests.ray_nodes import PATIENCE, RAY, outside, own_ray
from tests.training.conftest import base, shards  # noqa: F401  fixtures
from tests.training.ranks import assert_same_run, log_of, recipe_for, run_ranks
from training.launch.preflight import for_export
from training.launch.ray_train import ranks_and_resource
from training.recipe import RecipeError

ROOT = Path(__file__).resolve().parents[2]
STEPS, EVERY = 24, 8


def written(recipe, folder):
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    return file


# -- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--recipe", "tyni"], ["tyni", "neither a file nor one of", "tiny"]),
        (["--set", "engine.zreo=3"], ["engine.zreo", "did you mean `zero`"]),
        (["--set", "data.shards=/nowhere/shards"], ["/nowhere/shards"]),
        (["--ranks", "3"], ["3 ranks", "does not divide 2 lanes", "allowed: 1, 2"]),
        (["--ranks", "0"], ["--ranks 0"]),
        (["--export"], ["--export: no checkpoint in", "run/checkpoints"]),
        (["--set", "batch.size=64", "--set", "batch.lanes=8"], ["56 samples do not fill one batch of 64"]),
        (["--cluster", "http://127.0.0.1:9"], ["CLUSTER=http://127.0.0.1:9", "no Ray cluster answers there"]),
        (["--cluster", "http://127.0.0.1:9", "--out", "runs/mine"], ["--out runs/mine", "absolute path"]),
    ],
)
def test_what_is_wrong_is_one_message_before_ray_is_started(shards, base, tmp_path, capsys, options, words):  # noqa: F811
    usual = ["--recipe", str(written(recipe_for(shards, base), tmp_path)), "--out", str(tmp_path / "run")]
    started = time.monotonic()
    assert job.main([*usual, *options]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert all(word in said for word in words), said
    assert "Traceback" not in said and not (tmp_path / "run").exists()
    assert time.monotonic() - started < 30


GPUS, NO_GPUS = {"CPU": 8.0, "GPU": 4.0}, {"CPU": 8.0}


@pytest.mark.parametrize(
    ("device", "ranks", "have", "joining", "expected"),
    [
        ("auto", None, GPUS, True, (4, "GPU")),
        ("auto", None, NO_GPUS, True, (1, "CPU")),
        ("cpu", None, GPUS, False, (1, "CPU")),
        ("cuda", 64, NO_GPUS, True, (64, "GPU")),  # they come when they are asked for
        ("cuda", 64, GPUS, True, (64, "GPU")),
        ("cuda", None, NO_GPUS, False, (1, "CPU")),  # a rank says that there is none here
    ],
)
def test_how_many_ranks_and_on_what(shards, base, device, ranks, have, joining, expected):  # noqa: F811
    assert ranks_and_resource(recipe_for(shards, base, engine__device=device), ranks, have, joining) == expected


def test_gpus_that_are_still_to_come_must_be_counted(shards, base):  # noqa: F811
    with pytest.raises(RecipeError, match="no GPU yet: say with --ranks how many"):
        ranks_and_resource(recipe_for(shards, base, engine__device="cuda"), None, NO_GPUS, joining=True)


def test_a_run_that_was_stopped_is_exported_when_it_is_asked_for(shards, base, tmp_path):  # noqa: F811
    recipe = recipe_for(shards, base, steps=4, saving__every=2)
    out = tmp_path / "run"
    run_ranks(recipe, out)
    shutil.rmtree(out / "checkpoints" / "step-000000004")
    run_ranks(for_export(recipe, str(out)), out)
    assert read(out / "export" / "face-makeup.safetensors").metadata["steps"] == "2"
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["step-000000002"], "and nothing was trained"


# -- a cluster --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def head():
    """Addresses of a real head's dashboard and its GCS."""
    mine = {"HOME": os.environ["HOME"], "PWD": str(ROOT), "FACEMAKEUP_CACHE": str(cache_dir())}
    with own_ray(**mine) as own:
        yield own.dashboard, own.gcs


def submit(head, *words):
    """`ray job submit`; the job's name. A head that has just started takes no jobs for a moment."""
    for _ in range(30):
        command = [RAY, "job", "submit", "--address", head[0], "--no-wait", "--", *words]
        done = subprocess.run(command, env=outside(), capture_output=True, text=True)
        if done.returncode == 0:
            return done.stdout.partition("Job '")[2].partition("'")[0]
        assert "No available agent" in done.stdout + done.stderr, done.stdout + done.stderr
        time.sleep(1)
    raise AssertionError("the head takes no jobs")


def ended(head, name):
    """The job's status once it has ended, and its log."""
    client, deadline = JobSubmissionClient(head[0]), time.monotonic() + PATIENCE
    while not (status := client.get_job_status(name)).is_terminal():
        assert time.monotonic() < deadline, client.get_job_logs(name)
        time.sleep(0.3)
    return status.value, client.get_job_logs(name)


def rows_when(out, enough):
    """The log's rows as soon as `enough(rows)`."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if (out / "log.jsonl").exists() and enough(rows := log_of(out)):
            return rows
        time.sleep(0.02)
    raise AssertionError(log_of(out) if (out / "log.jsonl").exists() else "the run wrote nothing")


def announce_its_end(head):
    """What `ray drain-node` does, at once: the head's node is to be taken away in ten minutes."""
    from ray._raylet import GcsClient
    from ray.core.generated.autoscaler_pb2 import DrainNodeReason
    from ray.util.state import list_nodes

    dashboard, gcs = head
    (node,) = list_nodes(address=dashboard)
    deadline = int((time.time() + 600) * 1000)
    reason = DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    taken, why = GcsClient(address=gcs).drain_node(node.node_id, reason, "spot", deadline)
    assert taken, why


def starts(rows):
    return [row for row in rows if row["kind"] == "started"]


def test_what_no_restart_cures_is_said_once(head, shards, base, tmp_path):  # noqa: F811
    recipe = recipe_for(shards, base, optimiser__lr=1e30, optimiser__warmup_steps=0)
    command = ["python", str(ROOT / "jobs/train.py"), "--recipe", str(written(recipe, tmp_path))]
    name = submit(head, *command, "--out", str(tmp_path / "run"))
    status, said = ended(head, name)
    assert status == "FAILED" and JobSubmissionClient(head[0]).get_job_info(name).driver_exit_code == 1
    assert len(starts(log_of(tmp_path / "run"))) == 1
    assert "loss nan" in said or "loss inf" in said, said
    assert "Last good checkpoint: none" in said and "Traceback" not in said


def test_a_job_that_is_killed_and_stopped_and_whose_node_goes_ends_with_the_same_bits(head, shards, base, tmp_path):  # noqa: F811
    drawn = {"evaluation": {"every": EVERY, "references": 1, "inference_steps": 2}}
    recipe = recipe_for(shards, base, steps=STEPS, saving__every=EVERY, **drawn)
    out = tmp_path / "run"
    command = ["python", str(ROOT / "jobs/train.py"), "--recipe", str(written(recipe, tmp_path)), "--out", str(out)]
    command += ["--ranks", "2"]
    first = submit(head, *command)
    saved = out / "checkpoints" / f"step-{EVERY:09d}" / "manifest.json"
    rows = rows_when(out, lambda rows: saved.exists() and rows[-1]["kind"] == "train")
    trained = [row for row in rows if row["kind"] == "train"]
    time.sleep(0.4 * (trained[-1]["time"] - trained[-2]["time"]))  # in the middle of the next
    os.kill(rows[0]["pids"][1], signal.SIGKILL)
    rows = rows_when(
        out, lambda rows: len(starts(rows)) == 2 and rows[-1]["kind"] == "train" and rows[-1]["step"] > EVERY
    )
    assert starts(rows)[1]["step"] == EVERY and starts(rows)[1]["world"] == 2

    JobSubmissionClient(head[0]).stop_job(first)  # at once: `ray job stop` needs seconds to start
    status, said = ended(head, first)
    rows = log_of(out)
    stopped = rows[-1]
    assert status == "STOPPED" and stopped["kind"] == "stopped" and stopped["step"] < STEPS, said
    assert (
        f"from step {EVERY}, again: a rank had ended" in said and f"step {stopped['step']} of {STEPS} is saved" in said
    )
    assert (out / "stop").exists()

    last = submit(head, *command, "--set", "saving.every=1000")
    rows_when(out, lambda rows: len(starts(rows)) == 3 and rows[-1]["kind"] == "train")
    announce_its_end(head)
    status, said = ended(head, last)
    assert status == "SUCCEEDED", said
    rows = log_of(out)
    assert starts(rows)[-1]["step"] == stopped["step"] and not (out / "stop").exists()
    saved = [row["step"] for row in rows[rows.index(starts(rows)[-1]) :] if row["kind"] == "checkpoint"]
    assert len(saved) == 2 and saved[1] == STEPS  # the first because of the announcement
    evaluated = {row["step"]: row for row in rows if row["kind"] == "evaluation"}
    assert {0, EVERY, STEPS} <= evaluated.keys(), "the run that went on has one curve"
    assert all(
        "which the model is conditioned on" in row["says"]["likeness_at_pose_dlib"] for row in evaluated.values()
    )
    assert "likeness at pose dlib" in (out / "run.html").read_text()
    undisturbed = tmp_path / "undisturbed"
    run_ranks(recipe, undisturbed, world=2)
    assert_same_run(out, undisturbed)
