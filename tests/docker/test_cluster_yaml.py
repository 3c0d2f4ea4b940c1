"""The files for `ray up`: by Ray's own validation, by EC2's own parameters, and what both let through."""

from __future__ import annotations

import copy
import re
import shlex
from functools import lru_cache
from typing import Any

import pytest
import yaml

from tests.docker.image import ROOT
from tests.docker.planted import plant
from tests.docker.ray_commands import ray_start_fault

FILES = ["cluster.yaml", "cluster-onprem.yaml"]


@lru_cache
def ec2_instance() -> Any:
    import botocore.session

    return botocore.session.get_session().get_service_model("ec2").operation_model("RunInstances").input_shape


def faults(config: dict[str, Any]) -> list[str]:
    """What is wrong with it; empty: nothing."""
    from botocore.exceptions import ParamValidationError
    from botocore.validate import validate_parameters
    from ray.autoscaler._private.util import prepare_config, validate_config

    found = []
    try:
        prepared = prepare_config(copy.deepcopy(config))
        validate_config(prepared)
    except Exception as error:  # noqa: BLE001  jsonschema's, ValueError, RuntimeError: Ray has no class of its own for it
        return [str(error).splitlines()[0]]
    if config["provider"]["type"] == "aws":
        for name, node in config["available_node_types"].items():
            try:
                validate_parameters({"MinCount": 1, "MaxCount": 1, **node["node_config"]}, ec2_instance())
            except ParamValidationError as error:
                found.append(f"{name}: {error}")
    for command in [*prepared["head_start_ray_commands"], *prepared["worker_start_ray_commands"]]:
        for words in re.findall(r"ray start\b([^;]*)", command):
            fault = ray_start_fault(shlex.split(words))
            found += [fault] if fault else []
            found += ["--dashboard-host: the dashboard is open to the network"] if "--dashboard-host=0" in words else []
    if not any("auth_token" in place for place in prepared["file_mounts"]):
        found.append("file_mounts: the token does not reach the nodes")
    if prepared["setup_commands"] + prepared["head_setup_commands"] + prepared["worker_setup_commands"]:
        found.append("setup_commands: something is installed that the lock does not know")
    for option in config["docker"].get("run_options", []):
        if match := re.match(r"--shm-size[= ](.*)", option):
            good = re.fullmatch(r"\d+(\.\d+)?[bkmg]?b?", match[1], re.IGNORECASE)
            found += [] if good else [f"{option}: docker takes no such size"]
    if not config["docker"].get("image"):
        found.append("docker.image: the nodes would run without the image")
    return found


@pytest.mark.parametrize("name", FILES)
def test_it_is_valid(name):
    assert faults(read(name)) == []


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docker" / name).read_text())


def test_the_cloud_grows_by_cpus_and_by_gpus():
    nodes = read("cluster.yaml")["available_node_types"]
    assert nodes["head"]["resources"]["CPU"] == 0
    growing = {
        name: node["resources"]
        for name, node in nodes.items()
        if node.get("max_workers", 0) > node.get("min_workers", 0)
    }
    assert set(growing) == {"cpu", "gpu"} and "GPU" in growing["gpu"] and "GPU" not in growing["cpu"]


PLANTED = [
    ("cluster.yaml", "max_worker", 3, "'max_worker' was unexpected"),
    ("cluster.yaml", "docker.imag", "x", "'imag' was unexpected"),
    ("cluster.yaml", "docker.image", None, "image"),
    ("cluster.yaml", "docker.run_options", ["--shm-size=30%"], "docker takes no such size"),
    ("cluster.yaml", "idle_timeout_minutes", "five", "is not of type"),
    ("cluster.yaml", "head_node_type", "haed", "head_node_type"),
    ("cluster.yaml", "available_node_types.cpu.min_worker", 1, "'min_worker' was unexpected"),
    ("cluster.yaml", "available_node_types.cpu.resources.CPU", "16", "is not of type 'integer'"),
    ("cluster.yaml", "available_node_types.gpu.node_config.InstanceTyp", "g6.2xlarge", 'input: "InstanceTyp"'),
    ("cluster.yaml", "head_start_ray_commands", ["ray start --head --num-cpu=0"], "No such option"),
    ("cluster.yaml", "head_start_ray_commands", ["ray start --head --dashboard-host=0.0.0.0"], "open to the network"),
    ("cluster.yaml", "worker_start_ray_commands", ["ray start"], "neither --head nor --address"),
    ("cluster.yaml", "file_mounts", {}, "does not reach the nodes"),
    ("cluster.yaml", "setup_commands", ["pip install ray"], "something is installed"),
    ("cluster-onprem.yaml", "cluster_nam", "x", "'cluster_nam' was unexpected"),
    ("cluster-onprem.yaml", "provider.worker_ips", "10.0.0.2", "is not of type 'array'"),
]


@pytest.mark.parametrize(("name", "place", "value", "words"), PLANTED, ids=[f"{p}={v}"[:40] for _, p, v, _ in PLANTED])
def test_a_planted_mistake_is_found(name, place, value, words):
    config = read(name)
    plant(config, place, value)
    found = faults(config)
    assert any(words in fault for fault in found), found
