"""What CLUSTER=... can name, and how its Ray is reached from here.

http://head:8265        a cluster that is there
docker/cluster.yaml     machines that `ray up` starts (or finds); DOWN=1 ends them afterwards
compose                 docker/compose.yaml: a cluster of containers on this machine; DOWN=1 ends it afterwards
kuberay, kuberay:gpu    a RayJob on Kubernetes, by an overlay of docker/kuberay/ (kuberay.py)
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import yaml

from common.cluster.job import Job
from common.errors import UserError
from common.progress import say

ROOT = Path(__file__).resolve().parent.parent.parent
COMPOSE_FILE = ROOT / "docker" / "compose.yaml"
HEAD_THERE, RECIPE_THERE = "http://head:8265", "/tmp/recipe.yaml"  # as a container of it sees them
TO_FILL_IN = ("REGISTRY/", "ACCOUNT", "HEAD_ADDRESS", "WORKER_ADDRESS", "STORAGE_ADDRESS")  # of our own files
PATIENCE = 300.0  # seconds for a dashboard to answer after its machines are up


class PlaceError(UserError, RuntimeError):
    """CLUSTER names nothing that can be used from here; the message says what to change."""


@contextlib.contextmanager
def reached(cluster: str) -> Iterator[str]:
    """The address of the dashboard of what `cluster` names, inside a `with`.

    Raises:
        PlaceError: it names nothing, a program is missing, or the machines do not start.
    """
    if cluster.startswith(("http://", "https://")):
        yield cluster
    elif cluster.endswith((".yaml", ".yml")):
        with _ray_up(cluster) as address:
            yield address
    else:
        raise PlaceError(
            f"CLUSTER={cluster}: give http://HEAD:8265 (the head's dashboard), a file for `ray up` such as "
            "docker/cluster.yaml, compose, or kuberay[:MACHINES] (docs/cluster.md)"
        )


def wants_down() -> bool:
    """Whether DOWN=1 asks for the machines' end when the job has ended."""
    return os.environ.get("DOWN", "") not in ("", "0")


def program(name: str, what_for: str, remedy: str) -> str:
    """The path of a program that must be here.

    Raises:
        PlaceError: it is not.
    """
    found = shutil.which(name)
    if not found:
        raise PlaceError(f"{what_for} needs the program `{name}`, which is not here. {remedy}")
    return found


def run_program(command: list[str], complaint: str) -> None:
    """Run a program whose output the person sees.

    Raises:
        PlaceError: it failed.
    """
    if code := subprocess.run(command).returncode:
        raise PlaceError(f"{complaint}: `{' '.join(command)}` ended with {code}; what it says stands above")


def run_in_compose(job: Job) -> int:
    """Submit a job from a container beside the cluster's, which are started where they are not; its exit code.

    The recipe is a file of that container. Only there is the cluster's token known.

    Raises:
        PlaceError: there is no docker, or the containers do not end.
    """
    docker = program(
        "docker", "CLUSTER=compose", "Install Docker with its compose plugin: https://docs.docker.com/engine/"
    )
    for words, what in ((["compose", "version"], "its compose plugin"), (["info"], "an answer of its daemon")):
        asked = subprocess.run([docker, *words], capture_output=True, text=True)
        if asked.returncode:
            said = (asked.stderr.strip() or asked.stdout.strip()).splitlines()
            raise PlaceError(
                f"CLUSTER=compose: docker is here without {what} (`docker {' '.join(words)}`: {said[-1] if said else 'fails'}): "
                "https://docs.docker.com/engine/"
            )
    run_program([os.fspath(COMPOSE_FILE.parent / "secrets.sh")], "the cluster's token and keys cannot be made")
    compose = [docker, "compose", "--file", os.fspath(COMPOSE_FILE)]
    with tempfile.TemporaryDirectory() as folder:
        options = [f"--env={name}={value}" for name, value in job.environment.items()]
        if job.recipe is not None:
            (Path(folder) / "recipe.yaml").write_text(job.recipe)
            options.append(f"--volume={folder}/recipe.yaml:{RECIPE_THERE}:ro")
        command = [*job.with_recipe_at(RECIPE_THERE), f"--cluster={HEAD_THERE}"]
        run = [*compose, "run", "--build", "--rm", *options, "submit", *command]
        code = subprocess.run(run).returncode
    if wants_down():
        run_program([*compose, "down"], "the containers do not end")
    else:
        say("cluster", f"the containers stay; to end them: docker compose --file {COMPOSE_FILE} down")
    return code


@contextlib.contextmanager
def _ray_up(file: str) -> Iterator[str]:
    if not Path(file).is_file():
        raise PlaceError(f"CLUSTER={file}: there is no such file. Start from docker/cluster.yaml")
    _require_filled_in(file)
    ray = os.fspath(Path(sys.executable).parent / "ray")
    say("cluster", f"ray up {file}")
    run_program([ray, "up", "--yes", "--no-config-cache", file], "the machines do not start")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    tunnel = subprocess.Popen([ray, "dashboard", file, "--port", str(port)], stdout=subprocess.DEVNULL)
    try:
        yield _answering(f"http://127.0.0.1:{port}", tunnel)
    finally:
        tunnel.terminate()
        tunnel.wait()
        if wants_down():
            run_program([ray, "down", "--yes", file], "the machines do not end, and cost money")
        else:
            say("cluster", f"the machines stay, and may cost money; to end them: ray down {file} (or DOWN=1)")


def _require_filled_in(file: str) -> None:
    """Raises PlaceError: it is no file for `ray up`, or has words of the template where something of yours must stand."""
    try:
        tree = yaml.safe_load(Path(file).read_text())
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise PlaceError(f"CLUSTER={file}: cannot be read: {error}") from error
    if not isinstance(tree, dict) or "provider" not in tree:
        advice = "; for the containers of docker/compose.yaml write CLUSTER=compose" * ("services" in (tree or {}))
        raise PlaceError(f"CLUSTER={file}: no file for `ray up`, which has a `provider`{advice}")
    text = yaml.safe_dump(tree)
    if left := [word for word in TO_FILL_IN if re.search(rf"\b{word}", text)]:
        raise PlaceError(f"CLUSTER={file}: {', '.join(left)} must be replaced by yours: its comments say what they are")


def _answering(address: str, tunnel: subprocess.Popen[bytes] | None = None) -> str:
    """`address`, once something answers there.

    Raises:
        PlaceError: nothing does in time, or the tunnel to it has ended.
    """
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if tunnel is not None and tunnel.poll() is not None:
            raise PlaceError(
                f"the tunnel to the head's dashboard ended with {tunnel.returncode}; what it says stands above"
            )
        try:
            urllib.request.urlopen(f"{address}/api/version", timeout=5).close()
        except urllib.error.HTTPError:
            return address  # it wants a token: that is told later
        except OSError:
            time.sleep(1)
        else:
            return address
    raise PlaceError(f"{address}: the head's dashboard did not answer in {PATIENCE:.0f} s")
