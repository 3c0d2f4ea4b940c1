"""A Ray of this process's own: a head that works on nothing, and nodes that can be lost and come back."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psutil

from common.cluster.token import private_token

NODES, CPUS = 2, 1
MEMORY = 150 << 20  # bytes of a node's object store
AWAY = 4.0  # seconds that a node is gone before another takes its place


@dataclass(frozen=True)
class Worker:
    """A worker process, what Ray says that it executes, and the node whose it is."""

    process: psutil.Process
    title: str
    node: Any


class OwnCluster:
    """Nodes, each a raylet with its workers; drivers join at `address`, and stand on the head, which is never lost."""

    def __init__(self, cluster: Any):
        self._cluster = cluster
        self._coming: threading.Thread | None = None

    @property
    def address(self) -> str:
        return self._cluster.address

    @property
    def is_whole(self) -> bool:
        return self._coming is None or not self._coming.is_alive()

    def add_node(self) -> None:
        self._cluster.add_node(num_cpus=CPUS, object_store_memory=MEMORY)

    def busy(self, titles: str) -> list[Worker]:
        """Workers whose title, which Ray sets to what they execute, matches the whole pattern."""
        found = []
        for node in [self._cluster.head_node, *self._cluster.worker_nodes]:
            with contextlib.suppress(psutil.NoSuchProcess):
                for process in raylet_of(node).children():
                    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                        if re.fullmatch(titles, title := title_of(process)):
                            found.append(Worker(process, title, node))
        return sorted(found, key=lambda worker: worker.process.pid)

    def can_be_lost(self, node: Any) -> bool:
        return node is not self._cluster.head_node

    def lose(self, node: Any) -> None:
        """Take away what a killed raylet leaves behind; another node comes in a few seconds, while others work."""
        self._cluster.remove_node(node, allow_graceful=False)
        self._coming = threading.Timer(AWAY, self.add_node)
        self._coming.start()

    def wait(self) -> None:
        """Until it is whole."""
        if self._coming is not None:
            self._coming.join()


def raylet_of(node: Any) -> psutil.Process:
    return psutil.Process(node.all_processes["raylet"][0].process.pid)


def title_of(process: psutil.Process) -> str:
    return "".join(process.cmdline()[:1])


@contextlib.contextmanager
def own_cluster() -> Iterator[OwnCluster]:
    """With a head and `NODES` nodes, whose files are in a folder that goes with them."""
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "200")
    from ray._common.utils import get_default_ray_temp_dir
    from ray.cluster_utils import Cluster

    os.makedirs(get_default_ray_temp_dir(), exist_ok=True)  # Cluster notes its address there
    with private_token(), tempfile.TemporaryDirectory(prefix="chaos-ray-", ignore_cleanup_errors=True) as folder:
        cluster = Cluster(shutdown_at_exit=False)  # what it does at exit ends whole process groups
        mine = OwnCluster(cluster)
        try:
            cluster.add_node(num_cpus=0, object_store_memory=MEMORY, include_dashboard=False, temp_dir=folder)
            for _ in range(NODES):
                mine.add_node()
            yield mine
        finally:
            mine.wait()
            cluster.shutdown()
