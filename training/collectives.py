"""Values exchanged between the ranks of a run. Every function is a collective call: all ranks make it, or all wait."""

from __future__ import annotations

import os
import socket
from typing import TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")


def sum_over_ranks(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The elementwise sum of every rank's `values`, computed on `device`: float64 on a CPU, float32 on a GPU."""
    tensor = values.to(device, torch.float64 if device.type == "cpu" else torch.float32)
    dist.all_reduce(tensor)
    return tensor


def host_group(device: torch.device) -> dist.ProcessGroup | None:
    """A group of all ranks whose values are on the host, so that no GPU is waited for; None: the usual one is such."""
    return None if device.type == "cpu" else dist.new_group(backend="gloo")


def sum_on_hosts(values: list[float], hosts: dist.ProcessGroup | None) -> list[float]:
    """The sum of every rank's values, one by one. `hosts`: of `host_group`."""
    tensor = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(tensor, group=hosts)
    return tensor.tolist()


def gather(value: T) -> list[T]:
    """Every rank's value, in the order of the ranks. Pickled: for what is small or rare."""
    values: list[T | None] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def gather_lists(items: list[T]) -> list[T]:
    """Every rank's list, one after the other in the order of the ranks."""
    return [item for of_rank in gather(items) for item in of_rank]


def from_rank_0(value: T) -> T:
    """Rank 0's value, on every rank."""
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]


def hosts_and_pids() -> dict[str, list]:
    """`hosts` and `pids` of all ranks, by rank: where to look, or what to kill, when a run hangs."""
    processes = gather((socket.gethostname(), os.getpid()))
    return {"hosts": [host for host, _ in processes], "pids": [pid for _, pid in processes]}
