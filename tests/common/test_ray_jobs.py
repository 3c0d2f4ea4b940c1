"""A script as a Ray job: its log and exit code arrive, and so does its recipe."""

from __future__ import annotations

import base64
import shutil

import pytest

from common import ray_jobs
from common.ray_jobs import (
    JOB_CONFIG_VARIABLE,
    RECIPE_VARIABLE,
    ClusterError,
    inside_job,
    job_environment,
    submit_script,
    submitted_recipe,
)

SCRIPT = """
import sys, time
from common.ray_jobs import inside_job, submitted_recipe
for number in range(3):
    print("line", number, flush=True)
    time.sleep(1)
print(inside_job(), submitted_recipe())
sys.exit(3)
"""


def test_log_and_exit_code_of_a_job(ray_cluster, capfd, monkeypatch, tmp_path):
    if not ray_cluster["takes_jobs"]:
        pytest.skip("another Ray on this machine holds the port of the job agent")
    # Ray may delete an uploaded folder just as another test's job of the same folder skips the upload: send another
    shutil.copytree(ray_jobs.ROOT / "common", tmp_path / "common")
    monkeypatch.setattr(ray_jobs, "ROOT", tmp_path)
    assert submit_script(ray_cluster["dashboard"], ["python", "-c", SCRIPT], "a: ${NOT_SET}\nb: é") == 3
    said = capfd.readouterr().err
    log, ended, message = said.partition("ended as FAILED")  # Ray's message repeats the end of the log
    assert ended and "exit code 3" in message
    assert "line 0\nline 1\nline 2\nTrue a: ${NOT_SET}\nb: é\n" in log
    assert log.count("line 0\n") == 1


def test_a_dashboard_that_does_not_answer():
    with pytest.raises(ClusterError, match="CLUSTER=http://127.0.0.1:9: no Ray cluster answers there"):
        submit_script("http://127.0.0.1:9", ["python", "-c", ""], None)


def test_what_a_job_knows_of_itself(monkeypatch):
    assert not inside_job() and job_environment() == {} and submitted_recipe() is None
    monkeypatch.setenv(JOB_CONFIG_VARIABLE, '{"runtime_env": {"env_vars": {"A": "1"}}}')
    monkeypatch.setenv(RECIPE_VARIABLE, base64.b64encode(b"a: 1").decode())
    assert inside_job() and job_environment() == {"A": "1"} and submitted_recipe() == "a: 1"
