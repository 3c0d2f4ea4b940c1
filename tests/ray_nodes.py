"""A Ray as an administrator starts it: a head that takes jobs, and nodes with folders of their own, each a process."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from common.cluster.token import private_token

RAY = f"{Path(sys.executable).parent}/ray"
PATIENCE = 400.0  # seconds
AGENT_PORTS = ("dashboard-agent-listen-port", "dashboard-agent-grpc-port", "metrics-export-port")
SETTINGS = {
    "RAY_JOB_STOP_WAIT_TIME_S": "300",
    "RAY_agent_register_timeout_ms": "120000",  # a busy machine starts its agents more slowly than Ray waits for them
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
    "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "0.2",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def outside() -> dict[str, str]:
    """The environment of somebody who joins no Ray yet, and whose Python does not know this project."""
    return {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "PYTHONPATH")}


@dataclass
class Node:
    """A raylet with its workers. `folder`: its home, its cache, where it stands; nobody else's."""

    process: subprocess.Popen[str]
    folder: Path

    def kill(self) -> None:
        """As when a machine goes: everything of it at once."""
        whole = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
        for process in whole:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()


@dataclass
class OwnRay:
    """`dashboard`: where jobs are sent; `gcs`: where drivers and nodes join."""

    folder: Path
    dashboard: str = ""
    gcs: str = ""
    nodes: list[Node] = field(default_factory=list)

    def add(self, cpus: int, python: str = sys.executable, **environment: str) -> Node:
        """One more node, which has a resource of its own: node1, node2, ... Tried three times: Ray gives up its start after
        30 s on a busy machine."""
        name = f"node{len(self.nodes)}"
        options = [
            f"--address={self.gcs}", f"--num-cpus={cpus}", f"--resources={json.dumps({name: 100})}",
            # with the head's folder its agent would unpack a job's files over those that the driver reads
            f"--temp-dir={self.folder / f'ray{len(self.nodes)}'}",
        ]  # fmt: skip
        for last_try in (False, False, True):
            node = self._start(name, options, python, environment)
            if _wait_for(node, "Ray runtime started", may_end=not last_try):
                return node
            self.nodes.remove(node)
        raise AssertionError("unreachable")

    def _start(self, name: str, options: list[str], python: str, environment: dict[str, str]) -> Node:
        home = self.folder / name
        home.mkdir(exist_ok=True)
        command = [
            f"{Path(python).parent}/ray", "start", "--block", "--disable-usage-stats", "--node-ip-address=127.0.0.1",
            "--min-worker-port=0", "--max-worker-port=0", f"--node-name={name}", "--object-store-memory=150000000",
            *(f"--{port}={free_port()}" for port in AGENT_PORTS), *options,
        ]  # fmt: skip
        env = {
            **outside(),
            **SETTINGS,
            "HOME": f"{home}",
            "PWD": f"{home}",
            "FACEMAKEUP_CACHE": f"{home / 'cache'}",
            **environment,
        }
        with (home / "said.txt").open("w") as told:
            process = subprocess.Popen(
                command, env=env, stdout=told, stderr=told, start_new_session=True, cwd=env["PWD"], text=True
            )
        self.nodes.append(Node(process, home))
        return self.nodes[-1]


@contextlib.contextmanager
def own_ray(head_cpus: int = 3, **environment: str) -> Iterator[OwnRay]:
    """A head with a token of its own, inside a `with`; it and the nodes end with their processes. Ray gives up its
    start after 45 s on a busy machine, so it is tried three times."""
    for last_try in (False, False, True):
        with private_token(), _started(head_cpus, environment) as own:
            if not own.gcs and not last_try:
                continue
            assert own.gcs, "the head did not start"
            yield own
            return


@contextlib.contextmanager
def _started(cpus: int, environment: dict[str, str]) -> Iterator[OwnRay]:
    """`gcs` is "" where the head gave up."""
    folder = Path(tempfile.mkdtemp(prefix="fm-", dir="/tmp"))  # the path of a socket in it may have 107 bytes
    own, dashboard = OwnRay(folder), free_port()
    try:
        options = [
            "--head", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", "--include-dashboard=true",
            f"--num-cpus={cpus}", f"--temp-dir={folder / 'ray'}", f"--port={free_port()}",
            f"--ray-client-server-port={free_port()}",
        ]  # fmt: skip
        head = own._start("head", options, sys.executable, environment)
        if _wait_for(head, "Ray runtime started", may_end=True):
            own.gcs = re.search(r"address='([0-9.:]+)'", (head.folder / "said.txt").read_text()).group(1)
            own.dashboard = f"http://127.0.0.1:{dashboard}"
        yield own
    finally:
        for node in reversed(own.nodes):
            if node.process.poll() is None:
                node.process.terminate()
                node.process.wait(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(node: Node, words: str, may_end: bool = False) -> bool:
    deadline, said = time.monotonic() + PATIENCE, node.folder / "said.txt"
    while words not in said.read_text():
        if node.process.poll() is not None:
            print(said.read_text())
            assert may_end, said.read_text()
            return False
        assert time.monotonic() < deadline, said.read_text()
        time.sleep(0.2)
    return True
