"""Runs work on a Ray that is there: rows of a data set by actors, independent rows by tasks; on nodes that come and go."""

from __future__ import annotations

import os
import socket
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import ray

from common.cluster.nodes import code_hash, of_code, require_code
from common.cluster.pools import Machine, Pool
from common.errors import UserError
from common.failures.transient import add_retried, counting_retries, patiently

LOST_WORKERS = 5  # times that the same work is begun again because its process or node is gone
PROCESS_ENDED = (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError)
LOOK_EVERY = 2.0  # seconds between two looks at how many CPUs there are


def map_with_actors(
    dataset: ray.data.Dataset, operator: type, arguments: dict[str, Any], pool: Pool, retries: int = -1
) -> ray.data.Dataset:
    """`dataset` mapped row by row by actors of the callable class `operator`; the pool grows with the cluster.

    An actor is given `arguments`. It must run the driver's code: its node may have joined just now.
    `retries`: of a row whose worker is gone, -1: for ever. A lost node uses up any number in a second, since Ray goes on
    asking its actors until it knows of the loss: only -1 outlives that, and is for who finds what ends a worker again and
    again.
    """
    with warnings.catch_warnings():
        # Ray 2.60 announces the end of this argument and has no other for the retries of an actor's tasks
        warnings.simplefilter("ignore")
        return dataset.map(
            _telling(operator, code_hash()),
            fn_constructor_kwargs=arguments,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=pool.most, initial_size=pool.start),
            num_cpus=pool.cpus,
            num_gpus=pool.gpus,
            memory=pool.memory or None,
            max_task_retries=retries,
        )


def _telling(operator: type, code: str) -> type:
    """`operator` where this `code` of ours is; but what a person can mend in its constructor is raised by its calls: of a
    constructor's error Ray brings the driver its text alone, and a person would see a traceback."""

    class Telling(operator):
        def __init__(self, **arguments: Any):
            self._mend: UserError | None = None
            try:
                require_code(code)
                super().__init__(**arguments)
            except UserError as error:
                self._mend = error

        def __call__(self, row: dict[str, Any]) -> Any:
            if self._mend is not None:
                raise self._mend
            return super().__call__(row)

    Telling.__name__, Telling.__qualname__ = operator.__name__, operator.__qualname__  # as Ray shows it
    return Telling


def map_with_tasks(
    rows: Iterable[Any], function: Callable[[Any], Any], when_killed: Callable[[Any], Any] | None = None
) -> Iterator[Any]:
    """`function(row)` for each row, a Ray task each; results as they come. At most a few more than there are CPUs wait.

    For small independent work; `map_with_actors` is for what streams data and holds models. A row whose task fails for
    the world's reasons is done again. `when_killed`: done in its place for a row whose process was ended; without it
    the same is tried again.
    """

    code = code_hash()

    def task(call: Callable[[Any], Any], retries: int) -> Any:
        checked = of_code(code, lambda row: counting_retries(patiently(call), row))
        return ray.remote(num_cpus=0.9, max_retries=retries)(checked)

    usual = task(function, 0 if when_killed else LOST_WORKERS)
    careful = task(when_killed, LOST_WORKERS) if when_killed else None
    room = _Room()
    waiting: dict[ray.ObjectRef, Any] = {}  # the row; None once it is done carefully

    def next_result() -> Iterator[Any]:
        ready, _ = ray.wait(list(waiting), num_returns=1, timeout=LOOK_EVERY)
        for reference in ready:
            row = waiting.pop(reference)
            try:
                answer = ray.get(reference)
            except PROCESS_ENDED:
                if careful is None or row is None:
                    raise
                waiting[careful.remote(row)] = None
            else:
                yield _counted(answer)

    for row in rows:
        waiting[usual.remote(row)] = row
        while len(waiting) >= room():
            yield from next_result()
    while waiting:
        yield from next_result()


def this_node() -> tuple[str, Machine]:
    """The name of the node that this process works on, and what it has; of this machine where there is no Ray."""
    if ray.is_initialized():
        mine = ray.get_runtime_context().get_node_id()
        for node in ray.nodes():
            if node["NodeID"] == mine:
                return node["NodeName"], Machine(node["Resources"].get("CPU", 1.0), node["Resources"].get("GPU", 0.0))
    return socket.gethostname(), Machine(os.cpu_count() or 1, 0.0)


class _Room:
    """How many tasks may wait: it grows while nodes come."""

    def __init__(self) -> None:
        self._looked, self._room = -LOOK_EVERY, 0

    def __call__(self) -> int:
        if time.monotonic() - self._looked >= LOOK_EVERY:
            self._looked = time.monotonic()
            self._room = 2 * int(ray.cluster_resources().get("CPU", 1)) + 2
        return self._room


def _counted(answer: tuple[Any, int]) -> Any:
    result, retried = answer
    add_retried(retried)
    return result
