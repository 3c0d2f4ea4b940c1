"""The RayJob manifests: valid for both versions of KubeRay, and each check refuses what was planted for it."""

from __future__ import annotations

import copy
import re
import shutil
from typing import Any

import pytest

from tests.docker.image import ROOT
from tests.docker.manifests import KUBERAY, faults, pods, rendered
from tests.docker.planted import plant

FOLDERS = [f"{job}/{machines}" for job in ("curate", "train") for machines in ("cpu", "gpu", "spot")]
pytestmark = pytest.mark.skipif(
    not (shutil.which("kubectl") or shutil.which("kustomize")), reason="kubectl or kustomize renders the overlays"
)


@pytest.fixture(scope="module")
def overlays() -> dict[str, list[dict[str, Any]]]:
    return {folder: rendered(folder) for folder in FOLDERS}


def job_of(documents: list[dict[str, Any]]) -> dict[str, Any]:
    (job,) = [document for document in documents if document["kind"] == "RayJob"]
    return job


@pytest.mark.parametrize("folder", FOLDERS)
def test_an_overlay_is_valid(overlays, folder):
    kinds = {"ServiceAccount", "RayJob", *(["PriorityClass"] if folder.endswith("spot") else [])}
    assert {document["kind"] for document in overlays[folder]} == kinds
    for document in overlays[folder]:
        assert faults(document) == []


def test_the_overlays_differ_in_what_they_are_named_for(overlays):
    groups = {folder: pods(job_of(overlays[folder])) for folder in FOLDERS}
    images = {folder: {pod["containers"][0]["image"] for pod in groups[folder].values()} for folder in FOLDERS}
    assert images == {folder: {"facemakeup:cpu" if folder.endswith("cpu") else "facemakeup:cuda"} for folder in FOLDERS}
    for job in ("curate", "train"):
        assert set(groups[f"{job}/cpu"]) == {"head", "cpu"}
        assert set(groups[f"{job}/gpu"]) == set(groups[f"{job}/spot"]) == {"head", "cpu", "gpu"}
        spot = groups[f"{job}/spot"]
        assert {name for name, pod in spot.items() if "affinity" in pod and pod["priorityClassName"]} == {"cpu", "gpu"}
        assert all("affinity" not in pod for pod in groups[f"{job}/gpu"].values())
        assert f"jobs/{job}.py" in job_of(overlays[f"{job}/gpu"])["spec"]["entrypoint"]


def test_a_retry_finds_that_the_old_driver_is_gone(overlays):
    """A driver is taken over when it was still for STILL seconds; the head that held it must end before that."""
    from curation.run_directory.driver import BEAT, STILL

    for folder in FOLDERS:
        job = job_of(overlays[folder])
        assert pods(job)["head"]["terminationGracePeriodSeconds"] + BEAT < STILL
        assert job["spec"]["backoffLimit"] > 0


def test_the_ray_of_the_manifests_is_the_one_of_the_lock(overlays):
    (locked,) = re.findall(r"^ray==(\S+)", (ROOT / "requirements/lock.txt").read_text(), re.M)
    assert {job_of(documents)["spec"]["rayClusterSpec"]["rayVersion"] for documents in overlays.values()} == {locked}


def test_the_entrypoints_are_commands_that_the_jobs_take(overlays):
    import shlex

    from jobs import curate, train

    for folder, documents in overlays.items():
        entry = job_of(documents)["spec"]["entrypoint"].partition("python -m common.cluster.attempt ")
        python, script, *words = shlex.split(entry[2])
        assert python == "python" and (ROOT / script).exists()
        asked = train.parser().parse_args(words) if folder.startswith("train") else curate.parse(words)
        assert asked.recipe == "/etc/facemakeup/recipe.yaml"


# where, what is put there (None: taken away), what is said of it
CLUSTER = "spec.rayClusterSpec"
POD = f"{CLUSTER}.workerGroupSpecs.1.template.spec"
BOX = f"{POD}.containers.0"
PLANTED = [
    ("spec.backoffLimits", 3, "'backoffLimits' was unexpected"),
    ("spec.ttlSecondsAfterFinished", "1d", "is not of type 'integer'"),
    ("spec.ttlSecondsAfterFinished", 86400, "would stay and cost"),
    ("spec.submissionMode", "K8SJobMode", "submissionMode: 'K8SJobMode' is none of"),
    ("spec.backoffLimit", -1, "not negative"),
    ("spec.shutdownAfterJobFinishes", None, "would stay and cost"),
    ("metadata.label", {}, "metadata.label: no such field"),
    ("metadata.name", "Facemakeup_curate", "at most 47"),
    (f"{CLUSTER}.authOptions.mode", "tokens", "is not one of ['disabled', 'token']"),
    (f"{CLUSTER}.authOptions.secret", "x", "'secret' was unexpected"),
    (f"{CLUSTER}.authOptions", None, "could run code"),
    (f"{CLUSTER}.rayVersion", "2.9.0", "2.52 or later"),
    (f"{CLUSTER}.autoscalerOptions.version", "v3", "is not one of"),
    (f"{CLUSTER}.networkPolicy", {}, "KubeRay 1.6.2"),  # 1.7 has it, 1.6 drops it without a word
    (f"{CLUSTER}.workerGroupSpecs.1.minReplica", 0, "'minReplica' was unexpected"),
    (f"{CLUSTER}.workerGroupSpecs.1.maxReplicas", None, "'maxReplicas' is a required property"),
    (f"{CLUSTER}.workerGroupSpecs.1.replicas", 9, "between minReplicas and maxReplicas"),
    (f"{POD}.toleration", [], "'toleration' was unexpected"),
    (f"{POD}.tolerations.0.effect", "NoShedule", "is none of"),
    (f"{POD}.restartPolicy", "Newer", "is none of"),
    (f"{POD}.restartPolicy", "Always", "asks for Never"),
    (f"{POD}.serviceAccountName", None, "would not know the pod"),
    (f"{POD}.securityContext", None, "runAsNonRoot"),
    (f"{POD}.volumes.0.emptyDir.medium", "memory", "is none of"),
    (f"{POD}.volumes.0.emptyDir.medium", "", "an emptyDir in memory"),
    (f"{BOX}.volumeMounts.0.name", "shn", "no volume shn"),
    (f"{BOX}.resources.limits.memory", "1Gi", "hoped for"),
    (f"{BOX}.resources.limits.memory", "48GB", "does not match"),
    (f"{BOX}.resources.requests.cpu", None, "resources: requests"),
    (f"{BOX}.env", [{"name": "AWS_SECRET_ACCESS_KEY", "value": "x"}], "a secret in a manifest"),
]


@pytest.mark.parametrize(("place", "value", "words"), PLANTED, ids=[f"{p.split('.')[-1]}={v}" for p, v, _ in PLANTED])
def test_a_planted_mistake_is_found(overlays, place, value, words):
    job = copy.deepcopy(job_of(overlays["curate/gpu"]))
    plant(job, place, value)
    found = faults(job)
    assert any(words in fault for fault in found), found


def test_both_versions_are_asked(overlays):
    job = copy.deepcopy(job_of(overlays["curate/cpu"]))
    job["spec"]["entrypoints"] = "x"
    assert {version for version in KUBERAY for fault in faults(job) if f"KubeRay {version}" in fault} == set(KUBERAY)


def test_a_planted_mistake_in_a_core_kind_is_found(overlays):
    priority, account = (
        next(document for document in overlays["curate/spot"] if document["kind"] == kind)
        for kind in ("PriorityClass", "ServiceAccount")
    )
    assert faults(priority | {"values": 1}) and faults(priority | {"value": "low"}) and faults(account | {"secret": []})
    assert faults(priority | {"preemptionPolicy": "Newer"})
