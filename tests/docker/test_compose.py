"""docker/compose.yaml: by the schema of the Compose specification, and by what the schema cannot know."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
from collections.abc import Iterator
from configparser import ConfigParser
from importlib.resources import files
from typing import Any

import jsonschema
import pytest
import yaml

from tests.docker.image import DOCKERFILE, ROOT
from tests.docker.planted import plant
from tests.docker.ray_commands import ray_start_fault

FOLDER = ROOT / "docker"
TEXT = (FOLDER / "compose.yaml").read_text()
SCHEMA = json.loads((files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json").read_text())
OURS = ("prepare", "head", "worker", "submit")


@pytest.fixture
def compose() -> dict[str, Any]:
    return yaml.safe_load(TEXT)


def all_of(error: jsonschema.ValidationError) -> Iterator[str]:
    """An error, and what of its alternatives was wrong."""
    yield f"{error.json_path}: {error.message}"
    for cause in error.context or ():
        yield from all_of(cause)


def faults(compose: dict[str, Any]) -> list[str]:
    """What is wrong with it; empty: nothing."""
    validator = jsonschema.validators.validator_for(SCHEMA)(SCHEMA)
    found = [line for error in validator.iter_errors(compose) for line in all_of(error)]
    if found:
        return found
    services = compose["services"]
    image_is_checked = "HEALTHCHECK" in (ROOT / DOCKERFILE).read_text()
    for name, service in services.items():
        command = service.get("command", [])
        if command[:2] == ["ray", "start"] and (fault := ray_start_fault(command[2:])):
            found.append(f"{name}: {fault}")
        for other, wait in service.get("depends_on", {}).items():
            told = other in services and (
                "healthcheck" in services[other] or ("build" in services[other] and image_is_checked)
            )
            if other not in services or (wait["condition"] == "service_healthy" and not told):
                found.append(f"{name}: depends_on: {other} never says that it is healthy")
        for kind in ("secrets", "networks"):
            found += [f"{name}: no {kind} {used}" for used in service.get(kind, []) if used not in compose[kind]]
        for volume in service.get("volumes", []):
            source = re.sub(r"\$\{\w+:-(\w+)\}", r"\1", volume).partition(":")[0]
            found += [f"{name}: no volume {source}"] if source not in compose["volumes"] else []
        found += [
            f"{name}: {port} is open to the network" for port in service.get("ports", []) if port[:10] != "127.0.0.1:"
        ]
        for variable, value in service.get("environment", {}).items():
            if re.search(r"TOKEN$|SECRET|PASSWORD|ACCESS_KEY", variable):
                found.append(f"{name}: {variable}={value}: a secret in the file")
        if command[:2] == ["ray", "start"] and "shm_size" not in service:
            found.append(f"{name}: /dev/shm would be 64 MB")
    return found


def test_it_is_valid(compose):
    assert faults(compose) == []
    assert compose["services"]["worker"]["deploy"]["replicas"] == 2


PLANTED = [
    ("services.head.comand", [], "'comand' was unexpected"),
    ("services.bucket.healthcheck.interval", 5, "is not of type 'string'"),
    ("services.worker.deploy.replica", 2, "'replica' does not match"),
    ("services.submit.depends_on.head.condition", "service_helthy", "is not one of"),
    ("services.submit.depends_on", {"haed": {"condition": "service_healthy"}}, "haed never says"),
    ("services.bucket.healthcheck", None, "bucket never says"),
    ("services.head.command", ["ray", "start", "--head", "--dashbord-host=0.0.0.0"], "No such option"),
    ("services.head.command", ["ray", "start", "--head", "--num-cpus=two"], "num-cpus"),
    ("services.head.secrets", ["ray_tokn"], "no secrets ray_tokn"),
    ("services.head.volumes", ["cahe:/cache"], "no volume cahe"),
    ("services.head.ports", ["8265:8265"], "open to the network"),
    ("services.head.environment.RAY_AUTH_TOKEN", "x", "a secret in the file"),
    ("services.worker.shm_size", None, "64 MB"),
]


@pytest.mark.parametrize(("place", "value", "words"), PLANTED, ids=[place for place, _, _ in PLANTED])
def test_a_planted_mistake_is_found(compose, place, value, words):
    compose = copy.deepcopy(compose)  # YAML's anchors are one object in several places
    plant(compose, place, value)
    found = faults(compose)
    assert any(words in fault for fault in found), found


def test_what_is_asked_of_the_shell_has_a_default():
    assert [name for name in re.findall(r"\$\{([^}]*)\}", TEXT) if ":-" not in name] == []


def test_every_node_has_the_token_and_only_nodes_have_the_bucket(compose):
    for name in OURS:
        service = compose["services"][name]
        assert service["environment"]["RAY_AUTH_MODE"] == "token" and "ray_token" in service["secrets"]
        assert ("aws_credentials" in service["secrets"]) == (name != "submit")
        assert ("AWS_SHARED_CREDENTIALS_FILE" in service["environment"]) == (name != "submit")
    assert "ray_token" not in compose["services"]["bucket"].get("secrets", [])


def test_the_sample_is_a_command_that_the_job_takes(compose):
    from curation.recipe.recipe import load
    from jobs.curate import parse

    python, script, *words = compose["services"]["submit"]["command"]
    asked = parse(words)
    assert (python, script, asked.cluster) == ("python", "jobs/curate.py", "http://head:8265")
    assert asked.run.startswith("s3://facemakeup/")
    assert load(asked.recipe, asked.set).name == "sample"


def test_the_secrets_are_random_kept_and_complete(compose, tmp_path):
    script = tmp_path / "secrets.sh"
    script.write_text((FOLDER / "secrets.sh").read_text())

    def made() -> dict[str, str]:
        subprocess.run(["sh", script], check=True, timeout=20)
        return {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}

    first = made()
    assert made() == first
    asked = {secret["file"] for secret in compose["secrets"].values()} | {compose["services"]["bucket"]["env_file"]}
    assert asked == {f"secrets/{name}" for name in first}
    assert os.stat(tmp_path / "secrets").st_mode & 0o077 == 0
    assert re.fullmatch(r"[0-9a-f]{64}", first["ray_token"])
    keys = ConfigParser()
    keys.read_string(first["aws_credentials"])
    bucket = dict(line.split("=") for line in first["bucket.env"].split())
    assert list(keys["default"].values()) == [bucket["ROOT_ACCESS_KEY"], bucket["ROOT_SECRET_KEY"]]
    (tmp_path / "secrets" / "ray_token").unlink()
    (tmp_path / "secrets" / "aws_credentials").unlink()
    assert not set(made().values()) & set(first.values())


def test_the_secrets_stay_out_of_git_and_of_the_image():
    assert "/docker/secrets/" in (ROOT / ".gitignore").read_text().split()
    assert "!docker" not in (FOLDER / "Dockerfile.dockerignore").read_text()


def test_the_bucket_is_made_once(compose, tmp_path, monkeypatch):
    """The line of `prepare`, with the keys where Compose has them; a second time it finds the bucket."""
    import s3fs

    from tests.servers.bucket import s3_bucket

    (line,) = re.findall(r'python -c "(.*)"', compose["services"]["prepare"]["command"][-1])
    keys = tmp_path / "aws_credentials"
    keys.write_text("[default]\naws_access_key_id = a\naws_secret_access_key = b\n")
    with s3_bucket("compose-other"):
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(keys))
        for _ in range(2):
            s3fs.S3FileSystem.clear_instance_cache()
            exec(line, {})
            assert "facemakeup" in s3fs.S3FileSystem().ls("")
