"""CLUSTER=kuberay[:MACHINES]: our command as a RayJob on Kubernetes, by docker/kuberay/JOB/MACHINES, followed to its end.

A RayJob is named after what it works on, so that one that is at work is found again. Recipe and command are in a
ConfigMap of the same name; the code is the image's. Only kubectl is called, with its current context.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from common.cluster.environment import SECRETS
from common.cluster.following import LEFT, asked_what_to_do
from common.cluster.job import COMMAND, Job
from common.cluster.kuberay_log import SubmitterLog
from common.cluster.places import ROOT, PlaceError, program, wants_down
from common.progress import say

FOLDER = ROOT / "docker" / "kuberay"
DEFAULT = "cpu"
VOLUME, THERE = "recipe", "/etc/facemakeup"  # of the pods, where the ConfigMap is
ANNOTATION = f"facemakeup/{COMMAND}"
ENDED = ("Complete", "Failed")  # a RayJob's jobDeploymentStatus
LOOK_EVERY = 3.0  # seconds
SAY_WHY_AFTER = 60.0  # seconds without pods, and between two such lines


@dataclass(frozen=True)
class Kubectl:
    """The program, called in a session of its own: Ctrl-C is for us."""

    path: str

    def ask(self, *words: str, stdin: str | None = None) -> str:
        """Its output.

        Raises:
            PlaceError: it failed; with its first line.
        """
        done = subprocess.run(
            [self.path, *words], input=stdin, capture_output=True, text=True, start_new_session=True, check=False
        )
        if done.returncode:
            raise PlaceError(f"kubectl {' '.join(words[:2])}: {_first_line(done.stderr or done.stdout or 'no answer')}")
        return done.stdout

    def rayjob(self, name: str) -> dict[str, Any] | None:
        """A RayJob, None where there is none of that name."""
        told = self.ask("get", "rayjob", name, "--ignore-not-found", "--output=json")
        return json.loads(told) if told.strip() else None


def run_on_kuberay(cluster: str, job: Job) -> int:
    """Apply `job` as a RayJob, or take up the one that is at work; show its log; its exit code.

    Raises:
        PlaceError: what is missing, or another command is at work on the same.
    """
    kubectl = Kubectl(
        program("kubectl", f"CLUSTER={cluster}", "Install it: https://kubernetes.io/docs/tasks/tools/#kubectl")
    )
    documents = manifests(kubectl, cluster, job)
    _require_all(kubectl, cluster, job, documents)
    name = name_of(job)
    there = kubectl.rayjob(name)
    again = there is not None and _deployment(there) not in ENDED
    if again:
        other = there["metadata"].get("annotations", {}).get(ANNOTATION)
        if other != job.metadata[COMMAND]:
            raise PlaceError(
                f"RayJob {name} is at work on the same ({job.works_on}) with another command: {other}\n"
                f"  wait for it, or end it: kubectl delete rayjob {name}"
            )
        say("submit", f"RayJob {name} is this command, since {there['metadata']['creationTimestamp']}: taken up again")
    else:
        if there is not None:
            kubectl.ask("delete", "rayjob", name, "--wait")
        kubectl.ask("apply", "--filename=-", stdin=yaml.safe_dump_all(documents))
        say("submit", f"RayJob {name}; its machines: docker/kuberay/{_folder(cluster, job)}")
    code = _follow(kubectl, name, job, again)
    if code != LEFT and wants_down():
        kubectl.ask("delete", "rayjob,configmap", name, "--ignore-not-found")
    return code


def name_of(job: Job) -> str:
    """Of the RayJob and its ConfigMap; KubeRay takes 47 characters."""
    return f"facemakeup-{_script(job)}-{hashlib.sha256(job.works_on.encode()).hexdigest()[:8]}".replace("_", "-")


def manifests(kubectl: Kubectl, cluster: str, job: Job) -> list[dict[str, Any]]:
    """What is applied: the overlay's documents, with this job's name and entry point, and a ConfigMap.

    Raises:
        PlaceError: there is no such overlay.
    """
    folder = _folder(cluster, job)
    if not (FOLDER / folder / "kustomization.yaml").is_file():
        have = sorted(path.parent.name for path in (FOLDER / folder).parent.glob("*/kustomization.yaml"))
        raise PlaceError(
            f"CLUSTER={cluster}: docker/kuberay/{folder} is not there; take {', '.join(have)}, or make a folder like them"
        )
    documents = list(yaml.safe_load_all(kubectl.ask("kustomize", os.fspath(FOLDER / folder))))
    (ray_job,) = [each for each in documents if each["kind"] == "RayJob"]
    metadata, spec, name = ray_job["metadata"], ray_job["spec"], name_of(job)
    metadata |= {"name": name, "annotations": {**metadata.get("annotations", {}), ANNOTATION: job.metadata[COMMAND]}}
    spec["entrypoint"] = f"python -m common.cluster.attempt @{THERE}/{COMMAND}"
    cluster_spec = spec["rayClusterSpec"]
    for group in (cluster_spec["headGroupSpec"], *cluster_spec["workerGroupSpecs"]):
        for volume in group["template"]["spec"]["volumes"]:
            if volume["name"] == VOLUME:
                volume["configMap"]["name"] = name
    return [_config_map(name, metadata.get("labels", {}), job), *documents]


def _config_map(name: str, labels: dict[str, str], job: Job) -> dict[str, Any]:
    from common.cluster.nodes import code_hash

    words = [f"--code={code_hash()}", *(f"--env={key}={value}" for key, value in sorted(job.settings.items()))]
    words += job.with_recipe_at(f"{THERE}/recipe.yaml")
    if broken := [word for word in words if "\n" in word]:
        raise PlaceError(f"CLUSTER=kuberay takes no line break in a word of the command: {broken[0]!r}")
    data = {COMMAND: "\n".join(words), **({"recipe.yaml": job.recipe} if job.recipe else {})}
    metadata = {"name": name, "labels": labels}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def _require_all(kubectl: Kubectl, cluster: str, job: Job, documents: list[dict[str, Any]]) -> None:
    """Raises:
    PlaceError: what is missing, and what to do.
    """
    place = job.works_on.partition(" ")[2]
    if "://" not in place:
        raise PlaceError(
            f"CLUSTER={cluster}: {place} is on this machine, and pods share no disk: give s3://... or gs://..."
        )
    if held := sorted(SECRETS & job.settings.keys()):
        raise PlaceError(
            f"CLUSTER={cluster}: {', '.join(held)} would stand in a manifest. Unset PASS_SECRETS: the pods' account has "
            "the right (docker/kuberay/base/account.yaml)"
        )
    try:
        kubectl.ask("config", "current-context")
    except PlaceError as error:
        raise PlaceError(
            f"CLUSTER={cluster}: kubectl knows no cluster ({error}). Choose one: kubectl config use-context NAME"
        ) from None
    if "rayjobs" not in kubectl.ask("api-resources", "--api-group=ray.io", "--output=name"):
        raise PlaceError(
            f"CLUSTER={cluster}: this Kubernetes knows no RayJob: KubeRay's operator is not installed (docker/README.md)"
        )
    (secret,) = {
        each["spec"]["rayClusterSpec"]["authOptions"]["secretName"] for each in documents if each["kind"] == "RayJob"
    }
    if not kubectl.ask("get", "secret", secret, "--ignore-not-found", "--output=name").strip():
        raise PlaceError(f"CLUSTER={cluster}: the secret {secret} is not there. Make it once, as in docker/README.md")


def _folder(cluster: str, job: Job) -> str:
    """Below docker/kuberay/. What is neither curate nor train takes the machines of a training."""
    script = _script(job)
    return f"{script if (FOLDER / script).is_dir() else 'train'}/{cluster.partition(':')[2] or DEFAULT}"


def _script(job: Job) -> str:
    return Path(job.command[1]).stem


def _deployment(ray_job: dict[str, Any]) -> str:
    return (ray_job.get("status") or {}).get("jobDeploymentStatus") or ""


def _follow(kubectl: Kubectl, name: str, job: Job, again: bool) -> int:
    log, shown, since = SubmitterLog(kubectl.path, name, again), None, time.monotonic()
    while True:
        try:
            ray_job = kubectl.rayjob(name)
            if ray_job is None:
                log.leave()
                print(f"RayJob {name} was deleted", file=sys.stderr)
                return 1
            now = _deployment(ray_job)
            if now != shown:
                say("submit", f"RayJob {name}: {now or 'waits for the operator'}")
                shown, since = now, time.monotonic()
            if now in ENDED:
                log.finish()
                return _exit_code(name, ray_job["status"])
            if now == "Running":
                log.keep_up()
            elif time.monotonic() - since > SAY_WHY_AFTER:
                since = time.monotonic()
                for line in _what_pods_wait_for(kubectl, ray_job):
                    say("submit", line)
            time.sleep(LOOK_EVERY)
        except PlaceError as error:
            say("submit", f"no answer ({error}); trying on, Ctrl-C leaves it")
            time.sleep(5 * LOOK_EVERY)
        except KeyboardInterrupt:
            answer = asked_what_to_do()
            if answer == "leave":
                log.leave()
                say("submit", f"RayJob {name} goes on. The same command shows it again; this ends it:")
                say("submit", f"kubectl delete rayjob {name}")
                return LEFT
            if answer == "stop":
                say("submit", f"stopping RayJob {name}")
                job.stop() if job.stop else kubectl.ask("delete", "rayjob", name, "--wait=false")


def _exit_code(name: str, status: dict[str, Any]) -> int:
    """0; 2 where a person has to change something first (attempt.py); else what Ray says of the last attempt, or 1."""
    ended = status.get("jobStatus", "")
    if ended == "SUCCEEDED":
        return 0
    if ended == "STOPPED":
        return 2
    message = status.get("message") or status.get("reason") or "no reason is told"
    print(f"RayJob {name} ended as {ended or 'failed'}, {status.get('failed', 1)} times: {message}", file=sys.stderr)
    found = re.search(r"failed with exit code (\d+)", message)
    return int(found[1]) if found else 1


def _what_pods_wait_for(kubectl: Kubectl, ray_job: dict[str, Any]) -> list[str]:
    """Why pods of its cluster do not run: no such image, no room, no secret."""
    cluster = (ray_job.get("status") or {}).get("rayClusterName")
    if not cluster:
        return ["KubeRay's operator has not begun with it: kubectl get pods --all-namespaces | grep kuberay-operator"]
    told = json.loads(kubectl.ask("get", "pods", f"--selector=ray.io/cluster={cluster}", "--output=json"))
    lines = []
    for pod in told["items"]:
        status = pod.get("status", {})
        why = [each.get("message") for each in status.get("conditions", []) if each.get("reason") == "Unschedulable"]
        for container in status.get("containerStatuses", []):
            waiting = container.get("state", {}).get("waiting") or {}
            why.append(": ".join(filter(None, (waiting.get("reason"), waiting.get("message")))))
        lines += [f"{pod['metadata']['name']} waits: {_first_line(reason)}" for reason in why if reason]
    return lines


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0][:300]
