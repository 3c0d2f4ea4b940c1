"""Looks at every node of a cluster before work is sent there: its Python, its Ray, our code, and what a step needs."""

from __future__ import annotations

import hashlib
import platform
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, wraps
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from common.errors import UserError
from common.failures.mendable import first_line

ROOMS = ("common", "model", "curation", "training", "generation", "evaluation", "jobs")
ROOT = Path(__file__).resolve().parent.parent.parent
Result = TypeVar("Result")
PATIENCE = 180.0  # seconds for a node to start a process and look


class NodeError(UserError, RuntimeError):
    """Nodes that cannot do the work; the message names them, and what is wrong with each."""


@dataclass(frozen=True)
class Facts:
    """What must be the same on all nodes. `code`: a hash of our source files; `host`: the machine, which nodes of a test
    share."""

    python: str
    ray: str
    code: str
    host: str


def facts() -> Facts:
    """Of this process."""
    return Facts(platform.python_version(), ray.__version__, code_hash(), socket.gethostname())


@cache
def code_hash() -> str:
    """Of every source file of ours that this process can import."""
    hasher = hashlib.sha256()
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            hasher.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    return hasher.hexdigest()[:16]


def require_code(code: str) -> None:
    """In a worker: that it runs the driver's code. A node that joins later is not among those that were looked at.

    Raises:
        NodeError: it runs another.
    """
    if code_hash() != code:
        raise NodeError(f"node {socket.gethostname()} {_other_code(code, code_hash())}")


def of_code(code: str, function: Callable[..., Result]) -> Callable[..., Result]:
    """`function` for a task, which first looks whether its process runs this code."""

    @wraps(function)
    def checked(*arguments: Any, **named: Any) -> Result:
        require_code(code)
        return function(*arguments, **named)

    return checked


def other_nodes() -> list[dict[str, Any]]:
    """The nodes that work can be sent to, but the one of this process."""
    mine = ray.get_runtime_context().get_node_id()
    return [node for node in ray.nodes() if node["Alive"] and node["NodeID"] != mine and node["Resources"].get("CPU")]


def are_elsewhere(nodes: list[dict[str, Any]]) -> bool:
    """Whether one of the nodes is another machine than this process's."""
    here = socket.gethostname()
    return any(node["NodeManagerHostname"] != here for node in nodes)


def require_alike(look: Callable[[], None]) -> int:
    """Let every other node look, by a task; the number of nodes that did.

    Args:
        look: raises a UserError where the node lacks something.

    Raises:
        NodeError: a node has another Python, Ray or code than this process, cannot look, or lacks something.
    """
    mine, nodes = facts(), other_nodes()

    @ray.remote(num_cpus=0, max_retries=2)
    def seen() -> tuple[Facts, str]:
        its = facts()
        try:
            look()
        except UserError as error:
            return its, str(error)
        return its, ""

    waiting = {}
    for node in nodes:
        place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        waiting[seen.options(scheduling_strategy=place).remote()] = node
    wrong = []
    for reference, node in waiting.items():
        name = f"{node['NodeName']} ({node['NodeManagerAddress']})"
        try:
            its, problem = ray.get(reference, timeout=PATIENCE)
        except ray.exceptions.GetTimeoutError:
            wrong.append(f"{name}: did not answer in {PATIENCE:.0f} s")
        except (ray.exceptions.NodeDiedError, ray.exceptions.TaskUnschedulableError, ray.exceptions.WorkerCrashedError):
            continue  # it is gone, as any node may go at any time
        except ray.exceptions.RayError as error:
            wrong.append(f"{name}: cannot run our code: {first_line(_cause(error))}")
        else:
            wrong += [f"{name}: {told}" for told in (*_differences(mine, its), problem) if told]
    if wrong:
        raise NodeError(
            f"{len(wrong)} of {len(nodes)} nodes cannot take part:\n  " + "\n  ".join(wrong) + "\n"
            "Give every node the same image and, where it has no identity of its own, the same access to the stores "
            "(docs/cluster.md)"
        )
    return len(nodes)


def _cause(error: BaseException) -> BaseException:
    return getattr(error, "cause", None) or error


def _differences(mine: Facts, its: Facts) -> list[str]:
    told = []
    for name, here, there in (("Python", mine.python, its.python), ("Ray", mine.ray, its.ray)):
        if here != there:
            told.append(f"has {name} {there}; the driver has {here}")
    if mine.code != its.code:
        told.append(_other_code(mine.code, its.code))
    return told


def _other_code(mine: str, its: str) -> str:
    return (
        f"has other code of ours ({its}) than the driver ({mine}): build the image anew, or submit with CLUSTER=..., which "
        "sends the code along"
    )
