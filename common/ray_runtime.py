"""The Ray that a step runs on: one that is there already, or a local one made for the occasion."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import ray

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "WANDB_MODE": "disabled",
}
# one thread a model and a core an actor: threads inside threads only slow a full machine down
SINGLE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

# for a Ray of our own, on loopback, gone with this process
PRIVATE = {
    "RAY_AUTH_MODE": "disabled",
    # workers of one step serve the next: starting one costs seconds of imports
    "RAY_idle_worker_killing_time_threshold_ms": "300000",
    # its core prints, for every actor pool of Ray Data, that the pool's arguments live in the object store
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}
# of the driver's environment, what workers elsewhere need to find the same files
PASSED_ON = (
    "FACEMAKEUP_WEIGHTS",
    "FACEMAKEUP_CACHE",
    "AWS_ENDPOINT_URL",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_DEFAULT_REGION",
)


INSIDE_A_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # set by Ray for the entrypoint of a job


def passed_on() -> dict[str, str]:
    return {name: os.environ[name] for name in PASSED_ON if name in os.environ}


@contextlib.contextmanager
def connected(cpus: int | None = None) -> Iterator[None]:
    """Ray for the time of a `with`: joins the cluster of `RAY_ADDRESS` or of the running job, else starts one."""
    if ray.is_initialized():
        _settle()
        yield
        return
    joining = bool(os.environ.get("RAY_ADDRESS") or os.environ.get("RAY_JOB_ID"))
    # a Ray of our own hands its environment down to its workers; one that we join must be told
    for name, value in {**QUIET, **SINGLE_THREAD}.items():
        os.environ.setdefault(name, value)
    if not joining:
        for name, value in PRIVATE.items():
            os.environ.setdefault(name, value)

    def start() -> None:
        ray.init(
            address=None if joining else "local",
            num_cpus=None if joining else cpus,
            include_dashboard=None if joining else False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": _for_workers()} if joining else None,
        )

    try:
        with contextlib.ExitStack() as stack:
            if not joining:
                stack.enter_context(_hushed())
            start()
    except Exception as error:  # noqa: BLE001  Ray raises a bare Exception when its node is not up in 30 s
        logging.getLogger(__name__).warning("Ray did not start (%s); once more", str(error).splitlines()[0])
        ray.shutdown()
        start()
    _settle()
    try:
        yield
    finally:
        ray.shutdown()


def _for_workers() -> dict[str, str]:
    """What workers of a cluster that is joined must be told; inside a job without what the job tells them already,
    since Ray refuses a name that is given twice."""
    job = json.loads(os.environ.get(INSIDE_A_JOB) or "{}")
    told = (job.get("runtime_env") or {}).get("env_vars") or {}
    return {name: value for name, value in {**QUIET, **SINGLE_THREAD, **passed_on()}.items() if name not in told}


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Without the lines that Ray's core writes to standard error while it starts: what goes wrong is also raised."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _settle() -> None:
    """Ray Data without bars and chatter of its own: the steps show progress in images."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.enable_operator_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    # a block is one part: splitting it would split the files that are written from it
    context.target_max_block_size = None
    context.max_errored_blocks = 0


def stage(
    dataset: ray.data.Dataset, kind: type, arguments: dict[str, Any], workers: int, gpu: bool = False, share: int = 1
) -> ray.data.Dataset:
    """`dataset` mapped, row by row, by `workers` actors of the callable class `kind`.

    `share`: how many such stages share the machine. An actor takes a little less than its part of the CPUs, so that
    reading never waits for a core that an actor holds. A file that kills a native decoder is tried three times, not
    for ever.
    """
    cpus = ray.cluster_resources().get("CPU", 1)
    with warnings.catch_warnings():
        # Ray 2.60 announces the end of this argument and has no other for the retries of an actor's tasks
        warnings.simplefilter("ignore")
        return dataset.map(
            kind,
            fn_constructor_kwargs=arguments,
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_cpus=0.9 * min(1.0, cpus / (workers * share)),
            num_gpus=1 if gpu else 0,
            max_task_retries=2,
        )


def tasks(rows: Iterable[dict[str, Any]], function: Callable[[dict[str, Any]], Any]) -> Iterator[Any]:
    """`function(row)` for each row, a Ray task each; results as they come. At most a few more than there are CPUs wait.

    For what is one small job a unit: Ray Data's operators (`stage`) are for what streams and holds models.
    """
    remote = ray.remote(num_cpus=0.9, max_retries=2)(lambda row: function(row))
    room = 2 * int(ray.cluster_resources().get("CPU", 1)) + 2
    waiting: list[ray.ObjectRef] = []
    for row in rows:
        waiting.append(remote.remote(row))
        if len(waiting) >= room:
            ready, waiting = ray.wait(waiting, num_returns=1)
            yield from ray.get(ready)
    while waiting:
        ready, waiting = ray.wait(waiting, num_returns=1)
        yield from ray.get(ready)


def worker_count(asked: int | None, units: int, gpu: bool = False, share: int = 1) -> int:
    """Actors of a stage: as many as asked for, or one a free CPU (or GPU); never more than there is work."""
    have = ray.cluster_resources()
    free = have.get("GPU", 1) if gpu else have.get("CPU", 1) // share
    return int(max(1, min(asked or free, units)))
