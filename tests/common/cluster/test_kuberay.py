"""CLUSTER=kuberay with a program called kubectl that writes down what it is asked and answers as a test says.

Only `kubectl kustomize`, which needs no cluster, is the real one's.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from common.cluster import kuberay
from common.cluster.environment import SECRETS
from common.cluster.job import Job
from common.cluster.jobs import run_on_cluster
from common.cluster.kuberay import name_of
from common.cluster.places import PlaceError
from jobs import curate
from tests.docker.manifests import faults

REAL = shutil.which("kubectl")
pytestmark = pytest.mark.skipif(REAL is None, reason="kubectl renders the overlays")

# `answers` has, for the first words of a question, what is told one call after another, the last again and again:
# a text, or {"fails": text}
STAND_IN = """#!{python}
import json, os, pathlib, subprocess, sys
folder, words = pathlib.Path({folder!r}), sys.argv[1:]
if words[0] == "kustomize":
    sys.exit(subprocess.call([{real!r}, *words]))
stdin = sys.stdin.read() if "--filename=-" in words else None
with (folder / "asked").open("a") as file:
    file.write(json.dumps([words, stdin]) + "\\n")
answers = json.loads((folder / "answers").read_text())
key = next((key for key in answers if " ".join(words).startswith(key)), None)
if key is None:
    sys.exit(0)
told = answers[key][0]
if len(answers[key]) > 1:
    del answers[key][0]
    (folder / "next").write_text(json.dumps(answers))
    os.replace(folder / "next", folder / "answers")
if isinstance(told, dict):
    sys.exit(told["fails"])
print(told, end="")
"""
JOB = Job(
    ["python", "jobs/curate.py", "--recipe", "my.yaml", "--run", "s3://b/r", "--set", "name=a b$c"],
    "curate s3://b/r", "name: my\n", {"WHERE": "s3://b/$x 'y'"},
)  # fmt: skip
COMMAND = JOB.metadata["command"]


def state(deployment: str, job: str = "", command: str = COMMAND, **status: Any) -> str:
    metadata = {"annotations": {"facemakeup/command": command}, "creationTimestamp": "2026-01-02T03:04:05Z"}
    return json.dumps({"metadata": metadata, "status": {"jobDeploymentStatus": deployment, "jobStatus": job, **status}})


def lines(*numbers: int) -> str:
    return "".join(f"2026-01-02T03:04:0{number}.5Z line {number}\n" for number in numbers)


class StandIn:
    def __init__(self, folder: Path):
        self.folder = folder
        self.answers = {
            "config current-context": ["here\n"],
            "api-resources": ["rayclusters.ray.io\nrayjobs.ray.io\n"],
            "get secret": ["secret/facemakeup-token\n"],
            "logs": [lines(1, 2)],
        }
        program = folder / "kubectl"
        program.write_text(STAND_IN.format(python=sys.executable, folder=str(folder), real=REAL))
        program.chmod(0o755)

    def run(self, job: Job = JOB, cluster: str = "kuberay", **answers: list[Any]) -> int:
        self.answers |= {key.replace("_", " "): value for key, value in answers.items()}
        (self.folder / "answers").write_text(json.dumps(self.answers))
        return run_on_cluster(cluster, job)

    def asked(self, first: str) -> list[tuple[list[str], str | None]]:
        file = self.folder / "asked"
        calls = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        return [(words, stdin) for words, stdin in calls if words[0] == first]


@pytest.fixture
def kubectl(tmp_path, monkeypatch) -> StandIn:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(kuberay, "LOOK_EVERY", 0.02)
    for name in ("DOWN", "PASS_SECRETS"):
        monkeypatch.delenv(name, raising=False)
    return StandIn(tmp_path)


@pytest.mark.parametrize("machines", ["cpu", "gpu", "spot"])
def test_what_is_applied_is_valid_and_runs_this_command(kubectl, machines, monkeypatch):
    for name in SECRETS:
        monkeypatch.setenv(name, "planted")
    assert kubectl.run(cluster=f"kuberay:{machines}", get_rayjob=["", state("Complete", "SUCCEEDED")]) == 0
    ((_, applied),) = kubectl.asked("apply")
    assert "planted" not in applied
    documents = list(yaml.safe_load_all(applied))
    assert [fault for document in documents for fault in faults(document)] == []
    config, ray_job = (next(each for each in documents if each["kind"] == kind) for kind in ("ConfigMap", "RayJob"))
    assert config["metadata"]["name"] == ray_job["metadata"]["name"] == name_of(JOB)
    cluster = ray_job["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        (volume,) = [each for each in group["template"]["spec"]["volumes"] if each["name"] == "recipe"]
        assert volume["configMap"]["name"] == name_of(JOB)
    assert ray_job["spec"]["entrypoint"] == "python -m common.cluster.attempt @/etc/facemakeup/command"
    words = config["data"]["command"].splitlines()
    assert words[1:4] == ["--env=WHERE=s3://b/$x 'y'", "python", "jobs/curate.py"]
    asked = curate.parse(words[4:])
    assert (asked.recipe, asked.run, asked.set) == ("/etc/facemakeup/recipe.yaml", "s3://b/r", ["name=a b$c"])
    assert config["data"]["recipe.yaml"] == "name: my\n"


def test_a_job_without_an_overlay_of_its_own_takes_a_trainings_machines(kubectl):
    job = Job(["python", "jobs/cache.py", "--recipe", "tiny"], "cache s3://b/shards", "{}")
    assert kubectl.run(job, get_rayjob=["", state("Complete", "SUCCEEDED")]) == 0
    assert name_of(job).startswith("facemakeup-cache-") and "/train/" not in kubectl.asked("apply")[0][1]


@pytest.mark.parametrize(
    ("job", "message", "code"),
    [("SUCCEEDED", "", 0), ("STOPPED", "Job was intentionally stopped.", 2), ("FAILED", "failed with exit code 3, x", 3),
     ("", "Job submission has failed. Reason: BackoffLimitExceeded", 1)],
)  # fmt: skip
def test_log_and_exit_code(kubectl, capfd, job, message, code):
    """The connection breaks after line 2, and the pod's log is asked for again from there."""
    states = ["", state(""), state("Initializing"), state("Running"), state("Running")]
    kubectl.answers["logs"] = [lines(1, 2), lines(2, 3)]
    ended = state("Complete" if job in ("SUCCEEDED", "STOPPED") else "Failed", job, message=message, failed=4)
    assert kubectl.run(get_rayjob=[*states, ended]) == code
    said = capfd.readouterr().err
    assert [line for line in said.splitlines() if line.startswith("line")] == ["line 1", "line 2", "line 3"], said
    assert "Initializing" in said and (not code or code == 2 or message in said)
    first, second, *_ = [words for words, _ in kubectl.asked("logs")]
    assert first[-1] == f"job/{name_of(JOB)}" and second[-1] == "--since-time=2026-01-02T03:04:02.5Z"


def test_one_at_work_is_taken_up_and_an_ended_one_is_replaced(kubectl, capfd):
    assert kubectl.run(get_rayjob=[state("Running"), state("Running"), state("Complete", "SUCCEEDED")]) == 0
    assert kubectl.asked("apply") == kubectl.asked("delete") == []
    assert "since 2026-01-02T03:04:05Z: taken up again" in " ".join(capfd.readouterr().err.split())
    assert kubectl.asked("logs")[0][0][-1] == "--tail=30"
    with pytest.raises(PlaceError, match="at work on the same .curate s3://b/r. with another command: python x"):
        kubectl.run(get_rayjob=[state("Retrying", command="python x")])
    assert kubectl.run(get_rayjob=[state("Failed", "FAILED"), state("Complete", "SUCCEEDED")]) == 0
    assert len(kubectl.asked("delete")) == len(kubectl.asked("apply")) == 1


def test_why_pods_do_not_start_is_said(kubectl, capfd, monkeypatch):
    monkeypatch.setattr(kuberay, "SAY_WHY_AFTER", 0)
    waiting = {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no facemakeup:cpu"}}}
    full = {"reason": "Unschedulable", "message": "0/3 nodes: Insufficient nvidia.com/gpu"}
    pods = [{"metadata": {"name": "head"}, "status": {"containerStatuses": [waiting]}},
            {"metadata": {"name": "gpu"}, "status": {"conditions": [full]}}]  # fmt: skip
    states = ["", state("Initializing", rayClusterName="c"), state("Initializing", rayClusterName="c")]
    assert (
        kubectl.run(get_rayjob=[*states, state("Complete", "SUCCEEDED")], get_pods=[json.dumps({"items": pods})]) == 0
    )
    said = " ".join(capfd.readouterr().err.split())
    assert "head waits: ImagePullBackOff: no facemakeup:cpu" in said and "gpu waits: 0/3 nodes: Insufficient" in said


def test_a_break_of_the_connection_is_waited_out_and_a_deleted_job_ends_it(kubectl, capfd, monkeypatch):
    broken = {"fails": "Unable to connect to the server: EOF"}
    assert kubectl.run(get_rayjob=["", state("Running"), broken, state("Running"), ""]) == 1
    said = " ".join(capfd.readouterr().err.split())
    assert "Unable to connect to the server: EOF); trying on" in said and "was deleted" in said
    monkeypatch.setenv("DOWN", "1")
    assert kubectl.run(get_rayjob=["", state("Complete", "SUCCEEDED")]) == 0
    assert kubectl.asked("delete")[0][0][:3] == ["delete", "rayjob,configmap", name_of(JOB)]


@pytest.mark.parametrize(
    ("answers", "cluster", "words"),
    [({"config_current-context": [{"fails": "error: current-context is not set"}]}, "kuberay", "kubectl knows no cluster"),
     ({"api-resources": ["rayclusters.ray.io\n"]}, "kuberay", "operator is not installed"),
     ({"api-resources": [{"fails": "Unable to connect: i/o timeout\nmore"}]}, "kuberay", "Unable to connect: i/o timeout"),
     ({"get_secret": [""]}, "kuberay", "the secret facemakeup-token is not there"),
     ({}, "kuberay:tpu", "docker/kuberay/curate/tpu is not there; take cpu, gpu, spot")],
)  # fmt: skip
def test_what_is_missing_is_said_before_anything_is_applied(kubectl, answers, cluster, words):
    with pytest.raises(PlaceError, match=words) as caught:
        kubectl.run(cluster=cluster, **answers)
    assert "\n" not in str(caught.value)
    assert kubectl.asked("apply") == kubectl.asked("delete") == []


def test_a_run_on_a_disk_a_secret_and_no_kubectl(kubectl, monkeypatch):
    with pytest.raises(PlaceError, match="/data/run is on this machine, and pods share no disk"):
        kubectl.run(Job(JOB.command, "curate /data/run", "name: my\n"))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted")
    monkeypatch.setenv("PASS_SECRETS", "1")
    with pytest.raises(PlaceError, match="AWS_SECRET_ACCESS_KEY would stand in a manifest"):
        kubectl.run()
    assert kubectl.asked("apply") == []
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(PlaceError, match="needs the program `kubectl`"):
        kubectl.run()
