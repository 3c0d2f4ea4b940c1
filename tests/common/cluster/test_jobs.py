"""A job on a cluster: its log and exit code arrive, once; what is at work is not begun again; secrets stay here."""

from __future__ import annotations

import base64
import os
import shutil
import signal
import subprocess
import sys
import threading

import pytest
from ray.job_submission import JobSubmissionClient

from common.cluster import following, jobs, places
from common.cluster.environment import (
    JOB_CONFIG_VARIABLE,
    RECIPE_VARIABLE,
    inside_job,
    job_environment,
    submitted_recipe,
)
from common.cluster.following import LEFT
from common.cluster.job import Job
from common.cluster.jobs import ClusterError, run_on_cluster

SCRIPT = """
import os, sys, time
from common.cluster.environment import inside_job, submitted_recipe
for number in range(3):
    print("line", number, flush=True)
    time.sleep(1)
print(inside_job(), submitted_recipe(), os.environ.get("AWS_SECRET_ACCESS_KEY"))
sys.exit(3)
"""


@pytest.fixture
def cluster(ray_cluster, monkeypatch, tmp_path):
    """The address of a dashboard that takes jobs, which are sent a copy of `common` alone: Ray may delete an uploaded
    folder just as another test's job of the same folder skips the upload."""
    if not ray_cluster["takes_jobs"]:
        pytest.skip("another Ray on this machine holds the port of the job agent")
    shutil.copytree(jobs.ROOT / "common", tmp_path / "sent" / "common")
    monkeypatch.setattr(jobs, "ROOT", tmp_path / "sent")
    return ray_cluster["dashboard"]


def test_log_and_exit_code_of_a_job_and_what_it_is_not_sent(cluster, capfd, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-for-others")
    job = Job(["python", "-c", SCRIPT], "nothing", "a: ${NOT_SET}\nb: é")
    assert run_on_cluster(cluster, job) == 3
    said = capfd.readouterr().err
    log, ended, message = said.partition("ended as FAILED")  # Ray's message repeats the end of the log
    assert ended and "exit code 3" in message
    assert "line 0\nline 1\nline 2\nTrue a: ${NOT_SET}\nb: é None\n" in log
    assert log.count("line 0\n") == 1 and "not-for-others" not in said


WAITS = """
import pathlib, sys, time
gone = pathlib.Path(sys.argv[1])
while not gone.exists():
    print("at", time.monotonic(), flush=True)
    time.sleep(0.05)
print("the end")
"""


def test_a_job_at_work_is_taken_up_again_and_not_doubled(cluster, capfd, tmp_path):
    """Ctrl-C without a terminal leaves it at work; the same command shows it again, another one is refused."""
    gone = tmp_path / "gone"
    job = Job(["python", "-c", WAITS, str(gone)], f"wait {tmp_path}")
    interrupt = threading.Timer(8, os.kill, (os.getpid(), signal.SIGINT))
    interrupt.start()
    assert run_on_cluster(cluster, job) == LEFT
    interrupt.join()
    said = capfd.readouterr().err
    assert "goes on. The same command shows it again" in said and "ray job stop --address" in said
    with pytest.raises(ClusterError, match="at work on the same .* with another command"):
        run_on_cluster(cluster, Job(["python", "-c", "pass"], job.works_on))
    threading.Timer(3, gone.touch).start()
    assert run_on_cluster(cluster, job) == 0
    said = capfd.readouterr().err
    assert "is this command, since" in said and said.rstrip().endswith("the end")
    lines = [line for line in said.splitlines() if line.startswith("at ")]
    assert len(set(lines)) == len(lines) > 0
    mine = [info for info in JobSubmissionClient(cluster).list_jobs() if info.metadata.get("works_on") == job.works_on]
    assert len(mine) == 1


@pytest.mark.parametrize(("code", "ended"), [(2, "STOPPED"), (1, "FAILED")])
def test_a_job_that_a_person_must_change_is_not_one_that_failed(cluster, capfd, code, ended):
    """KubeRay begins what FAILED again, and not what was STOPPED (attempt.py)."""
    command = ["python", "-m", "common.cluster.attempt", "python", "-c", f"raise SystemExit({code})"]
    # Ray tells a job the address of the youngest Ray in /tmp/ray, which on this machine may be another
    here = {"RAY_API_SERVER_ADDRESS": cluster}
    assert run_on_cluster(cluster, Job(command, f"attempt {code}", environment=here)) == 1
    said = capfd.readouterr().err
    assert f"ended as {ended}" in said and ("something has to be changed first" in said) == (code == 2)


@pytest.mark.parametrize(
    ("shown", "told", "new"),
    [(b"", b"a\nb\n", b"a\nb\n"), (b"a\nb\n", b"a\nb\n", b""), (b"a\nb\n", b"a\nb\nc\n", b"c\n"),
     (b"b\n", b"a\nb\nc", b"c"), (b"x" * 50, b"long past that\n" * 9, b"long past that\n" * 9)],
)  # fmt: skip
def test_after_a_break_only_what_is_new_is_shown(shown, told, new):
    log = following._Log(None, "http://h", "job", 10)
    log.shown = shown
    assert log._new(told) == new


def test_of_many_short_lines_fewer_are_compared_than_are_asked_for(capfd):
    log = following._Log(None, "http://h", "job", 10)
    log._write(b"a\n" * 5000)
    assert log.shown.count(b"\n") <= following.OVERLAP / 2


@pytest.mark.parametrize(
    ("cluster", "words"),
    [("http://127.0.0.1:9", "CLUSTER=http://127.0.0.1:9: no Ray cluster answers there"),
     ("head:8265", "give http://HEAD:8265"), ("nowhere.yaml", "there is no such file"),
     ("compose", "needs the program `docker`")],
)  # fmt: skip
def test_a_cluster_that_cannot_be_reached(cluster, words, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Exception, match=words) as caught:
        run_on_cluster(cluster, Job(["python", "-c", ""], "nothing"))
    assert "\n" not in str(caught.value)


def test_another_token_is_told_as_that(ray_cluster):
    """In a process of its own: this one's token is the cluster's."""
    program = (
        "from common.cluster.job import Job\nfrom common.cluster.jobs import *\n"
        "try: run_on_cluster({!r}, Job(['python', '-c', ''], 'nothing'))\n"
        "except ClusterError as error: print(error)"
    ).format(ray_cluster["dashboard"])
    for token in ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "another"}, {"RAY_AUTH_MODE": "disabled"}):
        done = subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, **token}, capture_output=True, text=True, cwd=jobs.ROOT
        )
        assert "wants another token than this shell has" in done.stdout, done.stdout + done.stderr


def test_the_same_words_with_another_recipe_are_another_job():
    told = [
        Job(["python", "jobs/train.py"], "train s3://b/x", recipe).metadata for recipe in ("steps: 1", "steps: 2", None)
    ]
    assert len({item["command"] for item in told}) == 3 and len({item["works_on"] for item in told}) == 1


def test_what_makes_the_code_too_large_to_send_is_named(tmp_path, monkeypatch):
    from common.cluster import jobs

    (tmp_path / "drawn").mkdir()
    (tmp_path / "drawn" / "1.png").write_bytes(bytes(3_000_000))
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "large").write_bytes(bytes(9_000_000))
    monkeypatch.setattr(jobs, "ROOT", tmp_path)
    assert "too large for the cluster (drawn 3 MB)" in jobs._too_large()


def test_secrets_are_sent_only_where_the_person_insists(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("FACEMAKEUP_CACHE", "/here")
    job = Job(["python"], "nothing", environment={"SOMEWHERE": "s3://b"})
    assert job.variables() == {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "SOMEWHERE": "s3://b"}
    monkeypatch.setenv("PASS_SECRETS", "1")
    assert job.variables()["AWS_SECRET_ACCESS_KEY"] == "s"


def test_what_a_job_knows_of_itself(monkeypatch):
    assert not inside_job() and job_environment() == {} and submitted_recipe() is None
    monkeypatch.setenv(JOB_CONFIG_VARIABLE, '{"runtime_env": {"env_vars": {"A": "1"}}}')
    monkeypatch.setenv(RECIPE_VARIABLE, base64.b64encode(b"a: 1").decode())
    assert inside_job() and job_environment() == {"A": "1"} and submitted_recipe() == "a: 1"


def test_compose_is_asked_for_the_same_command_with_the_recipe_as_a_file(tmp_path, monkeypatch, capfd):
    """A program called docker that writes down what it is asked: no engine runs here."""
    (tmp_path / "docker").write_text('#!/bin/sh\necho "$@"\nfor word; do case $word in --volume=*) '
                                     'file=${word#--volume=}; cat ${file%%:*};; esac; done\ncase $* in *run*) exit 7;; esac\n')  # fmt: skip
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(places, "COMPOSE_FILE", tmp_path / "compose.yaml")
    (tmp_path / "secrets.sh").write_text("#!/bin/sh\n")
    (tmp_path / "secrets.sh").chmod(0o755)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted")
    job = Job(
        ["python", "jobs/curate.py", "--recipe", "my.yaml", "--run", "s3://b/r"],
        "curate s3://b/r",
        "name: my\n",
        {"A": "1"},
    )
    assert run_on_cluster("compose", job) == 7
    asked = capfd.readouterr().out
    assert "run --build --rm --env=A=1" in asked and "name: my" in asked and "planted" not in asked
    assert "submit python jobs/curate.py --recipe /tmp/recipe.yaml --run s3://b/r --cluster=http://head:8265" in asked
