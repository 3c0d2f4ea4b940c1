"""How many actors an operator has, and what each of them takes of its machine. Pure arithmetic over the nodes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SLACK = 0.9  # of the CPUs: reading and the driver's small tasks never wait for a core that an actor holds


@dataclass(frozen=True)
class Machine:
    """A node's CPUs, GPUs and bytes of memory for work, as Ray was told."""

    cpus: float
    gpus: float
    memory: float = math.inf


@dataclass(frozen=True)
class Pool:
    """Actors of an operator: `start` of them at first, `most` when nodes have come, each with these CPUs, GPUs and bytes of
    memory."""

    start: int
    most: int
    cpus: float
    gpus: float = 0.0
    memory: float = 0.0


def machines_of(nodes: Sequence[dict[str, Any]]) -> list[Machine]:
    """Of `ray.nodes()`: those that are alive and take work."""
    have = [node["Resources"] for node in nodes if node["Alive"]]
    return [
        Machine(each.get("CPU", 0.0), each.get("GPU", 0.0), each.get("memory", math.inf))
        for each in have
        if each.get("CPU")
    ]


def cpu_pool(machines: Sequence[Machine], asked: int | None, units: int, share: int = 1, memory: float = 0.0) -> Pool:
    """An actor a CPU, as far as there is memory; where `asked` are more than there are CPUs, they share.

    Args:
        asked: how many a person wants; None: one a CPU, also of nodes that come later.
        units: what there is to do; more actors would have nothing.
        share: how many operators divide these CPUs.
        memory: bytes of an actor. Where no machine has them, one actor runs all the same, and takes what there is.
    """
    whole = sum(machine.cpus for machine in machines) / share
    start = max(1, min(asked or math.floor(whole), units, _fitting(machines, memory, share)))
    cpus = SLACK * min(1.0, whole / start)
    return Pool(start, max(start, min(asked or units, units)), cpus, memory=_reserved(machines, memory, share))


def _fitting(machines: Sequence[Machine], memory: float, share: int) -> float:
    """How many actors the machines have memory for."""
    if not memory:
        return math.inf
    each = (machine.memory / share / memory for machine in machines)
    return sum(math.floor(count) if math.isfinite(count) else count for count in each)


def _reserved(machines: Sequence[Machine], memory: float, share: int) -> float:
    """Ray would wait for ever for an actor that wants more than any machine has."""
    return min(memory, max((machine.memory for machine in machines), default=math.inf) / share)


def gpu_pool(
    machines: Sequence[Machine], asked: int | None, units: int, actors_a_gpu: int, share: int = 1, memory: float = 0.0
) -> Pool:
    """`actors_a_gpu` actors a GPU, each with its share of the GPU and of its machine's CPUs: one waits for a store, or
    counts on CPUs, while the other has the GPU.

    All actors of a pool ask for the same, so on unlike machines they ask for the smallest share; how many threads an
    actor runs follows from the machine that it is on (`threads_of`).
    """
    with_gpus = [machine for machine in machines if machine.gpus]
    whole = sum(machine.gpus for machine in with_gpus)
    start = max(1, min(asked or math.floor(whole * actors_a_gpu), units, _fitting(with_gpus, memory, share)))
    cpus = min((machine.cpus / (machine.gpus * actors_a_gpu) for machine in with_gpus), default=1.0)
    reserved = _reserved(with_gpus, memory, share)
    return Pool(start, max(start, min(asked or units, units)), SLACK * cpus / share, 1 / actors_a_gpu, reserved)


def threads_of(machine: Machine, actors_a_gpu: int) -> int:
    """Of an actor on this machine that has a share of a GPU: its share of the CPUs, and one of each other actor's, which
    is not always at work."""
    share = machine.cpus / max(1.0, machine.gpus * actors_a_gpu)
    return max(1, math.ceil(share * min(2, actors_a_gpu)))


def wants_two_operators(machines: Sequence[Machine]) -> bool:
    """Whether CPU filters belong in an operator of their own: where machines without a GPU have a good part of the CPUs,
    which would do nothing otherwise. An image is then decoded twice."""
    without = sum(machine.cpus for machine in machines if not machine.gpus)
    return any(machine.gpus for machine in machines) and without > sum(machine.cpus for machine in machines) / 4
