"""What is wrong with docker/'s manifests: those of KubeRay against both schemas, and by rules that no schema has."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

from tests.docker.image import ROOT

SCHEMAS = Path(__file__).resolve().parent / "schemas"
KUBERAY = ("1.6.2", "1.7.0")
KUBERNETES = "1.33"  # what the pods' fields are checked against
METADATA = {"name", "namespace", "labels", "annotations"}

# fields whose schema takes any word: what Kubernetes and KubeRay take
WORDS = {
    "submissionMode": {"K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"},
    "restartPolicy": {"Always", "OnFailure", "Never"},
    "imagePullPolicy": {"Always", "IfNotPresent", "Never"},
    "preemptionPolicy": {"Never", "PreemptLowerPriority"},
    "medium": {"", "Memory", "HugePages"},
    "effect": {"NoSchedule", "PreferNoSchedule", "NoExecute"},
    "operator": {"Exists", "Equal", "In", "NotIn", "DoesNotExist", "Gt", "Lt"},
    "upscalingMode": {"Default", "Aggressive", "Conservative"},
}


def rendered(folder: str) -> list[dict[str, Any]]:
    """What `kubectl apply -k` of a folder below docker/kuberay/ would send."""
    command = ["kubectl", "kustomize"] if shutil.which("kubectl") else ["kustomize", "build"]
    done = subprocess.run([*command, ROOT / "docker/kuberay" / folder], capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise ValueError(done.stderr)
    return [document for document in yaml.safe_load_all(done.stdout) if document]


@lru_cache
def strict_schema(version: str) -> dict[str, Any]:
    """KubeRay's schema of a RayJob; a field that it does not name is refused, as the API server's own pruning is silent."""
    schema = json.loads(gzip.decompress((SCHEMAS / f"rayjob-{version}.json.gz").read_bytes()))

    def close(node: Any) -> None:
        for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            close(child)
        if isinstance(node, dict) and isinstance(node.get("properties"), dict) and node.get("type") == "object":
            if not node.get("x-kubernetes-preserve-unknown-fields"):
                node.setdefault("additionalProperties", False)

    close(schema)
    return schema


def faults(document: dict[str, Any]) -> list[str]:
    """What is wrong with one rendered document; empty: nothing."""
    found = [f"metadata.{name}: no such field" for name in set(document.get("metadata", {})) - METADATA]
    found += list(_wrong_words(document, ""))
    if document["kind"] != "RayJob":
        return found + _core_faults(document)
    for version in KUBERAY:
        validator = jsonschema.Draft202012Validator(strict_schema(version))
        found += [f"KubeRay {version}: {error.json_path}: {error.message}" for error in validator.iter_errors(document)]
    if not found:
        found += list(_operator_faults(document))
        for name, pod in pods(document).items():
            found += _core_faults({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": pod})
            found += [f"{name}: {fault}" for fault in _pod_faults(pod)]
    return found


def pods(job: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The pods' specs of a RayJob by their group; the head's is "head"."""
    cluster = job["spec"]["rayClusterSpec"]
    groups = {group["groupName"]: group["template"]["spec"] for group in cluster["workerGroupSpecs"]}
    return {"head": cluster["headGroupSpec"]["template"]["spec"], **groups}


def _core_faults(document: dict[str, Any]) -> list[str]:
    try:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
        return [f"Kubernetes {KUBERNETES}: {document['kind']}: {error.message}"]
    return []


def _wrong_words(node: Any, path: str) -> Iterator[str]:
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        if key in WORDS and isinstance(value, str) and value not in WORDS[key]:
            yield f"{path}.{key}: {value!r} is none of {sorted(WORDS[key])}"
        yield from _wrong_words(value, f"{path}.{key}")


def _operator_faults(job: dict[str, Any]) -> Iterator[str]:
    """What the operator refuses though the schema takes it (its ValidateRayJobSpec and ValidateRayClusterSpec)."""
    spec, cluster = job["spec"], job["spec"]["rayClusterSpec"]
    name = job["metadata"]["name"]
    if len(name) > 47 or not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name):
        yield f"metadata.name: {name}: at most 47 of a-z, 0-9 and -"
    if spec.get("backoffLimit", 0) < 0 or spec.get("ttlSecondsAfterFinished", 0) < 0:
        yield "backoffLimit and ttlSecondsAfterFinished are not negative"
    if not spec.get("shutdownAfterJobFinishes"):
        yield "shutdownAfterJobFinishes: a cluster that nobody uses would stay and cost"
    elif spec.get("ttlSecondsAfterFinished"):
        yield "ttlSecondsAfterFinished: so long the cluster of an ended job would stay and cost"
    if cluster.get("authOptions", {}).get("mode") != "token":
        yield "authOptions.mode: whoever reaches the head could run code on it"
    elif tuple(map(int, cluster.get("rayVersion", "0").split("."))) < (2, 52):
        yield "rayVersion: a token asks for 2.52 or later"
    for group, pod in pods(job).items():
        if cluster.get("autoscalerOptions", {}).get("version") == "v2" and pod.get("restartPolicy", "Never") != "Never":
            yield f"{group}: restartPolicy: autoscaler v2 asks for Never"
    for group in cluster["workerGroupSpecs"]:
        if not group["minReplicas"] <= group.get("replicas", 0) <= group["maxReplicas"]:
            yield f"{group['groupName']}: replicas is not between minReplicas and maxReplicas"


def _pod_faults(pod: dict[str, Any]) -> Iterator[str]:
    """What would make a pod of ours slow, unsafe or never start."""
    (container,) = pod["containers"]
    volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
    mounts = {mount["mountPath"]: mount["name"] for mount in container.get("volumeMounts", [])}
    yield from (f"volumeMounts: no volume {name}" for name in mounts.values() if name not in volumes)
    yield from (f"volumes: {name} is mounted nowhere" for name in volumes if name not in mounts.values())
    shared = volumes.get(mounts.get("/dev/shm", ""), {}).get("emptyDir", {})
    if shared.get("medium") != "Memory" or "sizeLimit" not in shared:
        yield "/dev/shm: an emptyDir in memory with a sizeLimit"
    requests, limits = (container.get("resources", {}).get(kind, {}) for kind in ("requests", "limits"))
    if not {"cpu", "memory", "ephemeral-storage"} <= set(requests) or not {"cpu", "memory"} <= set(limits):
        yield "resources: requests and limits of cpu and memory, and a request of ephemeral-storage"
    elif requests["memory"] != limits["memory"]:
        yield "resources: memory that is only hoped for ends a pod in the middle of its work"
    if not pod.get("securityContext", {}).get("runAsNonRoot"):
        yield "securityContext.runAsNonRoot"
    if pod.get("serviceAccountName") != "facemakeup":
        yield "serviceAccountName: the storage would not know the pod"
    for variable in container.get("env", []):
        if "value" in variable and re.search(r"TOKEN|SECRET|PASSWORD|_KEY", variable["name"]):
            yield f"env: {variable['name']}: a secret in a manifest"
