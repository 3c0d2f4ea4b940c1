"""Connects a command to Ray, a running cluster or a local one, and runs its work there: actors or tasks."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import ray

from common.errors import UserError
from common.failures.mendable import first_line
from common.failures.transient import add_retried, counting_retries, patiently
from common.ray_jobs import forwarded_environment, job_environment
from common.ray_token import private_token

QUIET_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "WANDB_MODE": "disabled",
}
# one thread a model and a core an actor: threads inside threads only slow a full machine down
SINGLE_THREAD_SETTINGS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

# for a local Ray, which ends with this process
LOCAL_RAY_SETTINGS = {
    # else its metrics are served to whoever asks, on every interface
    "RAY_enable_metrics_collection": "0",
    # workers of one step serve the next: starting one costs seconds of imports
    "RAY_idle_worker_killing_time_threshold_ms": "300000",
    # its core prints, for every actor pool of Ray Data, that the pool's arguments live in the object store
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}

LOST_WORKERS = 5  # times that the same work is begun again because its process or node is gone
PROCESS_ENDED = (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError)


class RayNotStarted(UserError, RuntimeError):
    """Ray did not start, or no cluster answers; the message says what to look at."""


@contextlib.contextmanager
def connected(cpus: int | None = None) -> Iterator[None]:
    """Ray inside a `with`: the cluster of `RAY_ADDRESS` or of the running job, else a local Ray with `cpus` CPUs.

    Raises:
        RayNotStarted: twice; with the remedy.
    """
    if ray.is_initialized():
        _configure_ray_data()
        yield
        return
    joining = bool(os.environ.get("RAY_ADDRESS") or os.environ.get("RAY_JOB_ID"))
    # a local Ray hands its environment down to its workers; on a cluster they get it through the runtime_env
    for name, value in {**QUIET_SETTINGS, **SINGLE_THREAD_SETTINGS}.items():
        os.environ.setdefault(name, value)
    with _joined() if joining else local_ray(cpus):
        yield


@contextlib.contextmanager
def _joined() -> Iterator[None]:
    environment = {"env_vars": _worker_environment()}
    place = os.environ.get("RAY_ADDRESS") or "this job's cluster"
    complaint = f"RAY_ADDRESS={place}: no Ray cluster answers there"
    _start(complaint, "Correct it, or unset it for a local Ray", runtime_env=environment)
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def local_ray(cpus: int | None = None, **options: Any) -> Iterator[Any]:
    """A Ray of this process's own inside a `with`; gives what `ray.init` does, which is given `options`.

    Raises:
        RayNotStarted: twice; with the remedy.
    """
    for name, value in LOCAL_RAY_SETTINGS.items():
        os.environ.setdefault(name, value)
    remedy = (
        "Its log is in /tmp/ray/session_latest/logs. On a busy machine try again when there is less to do; a full /tmp or "
        "/dev/shm stops it too (df -h /tmp /dev/shm)"
    )
    options = {"address": "local", "num_cpus": cpus, "include_dashboard": False, **options}
    with private_token():
        context = _start("a local Ray did not start in two tries", remedy, **options)
        try:
            yield context
        finally:
            ray.shutdown()


def _start(complaint: str, remedy: str, **options: Any) -> Any:
    """`ray.init`, tried twice: Ray raises a bare Exception when its node is not up in 30 s."""

    def start() -> Any:
        return ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)

    try:
        with contextlib.ExitStack() as stack:
            if options.get("address") == "local":
                stack.enter_context(_silent_stderr())
            context = start()
    except Exception as error:  # noqa: BLE001
        logging.getLogger(__name__).warning("Ray did not start (%s); once more", first_line(error))
        ray.shutdown()
        try:
            context = start()
        except Exception as again:
            raise RayNotStarted(f"{complaint} ({first_line(again)}). {remedy}") from again
    _configure_ray_data()
    return context


def _worker_environment() -> dict[str, str]:
    """The environment variables of workers on a cluster. Ray refuses a name that is given twice, so what the job
    around this process sets already is left out."""
    set_by_job = job_environment()
    wanted = {**QUIET_SETTINGS, **SINGLE_THREAD_SETTINGS, **forwarded_environment()}
    return {name: value for name, value in wanted.items() if name not in set_by_job}


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Drop what Ray's core writes to stderr while it starts: errors are also raised."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _configure_ray_data() -> None:
    """Switch off Ray Data's own bars and log lines (the steps show progress in images) and its splitting of blocks."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.enable_operator_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    # a block is one part: splitting it would split the files that are written from it
    context.target_max_block_size = None
    context.max_errored_blocks = 0
    # what a worker raises arrives as it was raised: whether a person can mend it is told by its class
    context.raise_original_map_exception = True


def map_with_actors(
    dataset: ray.data.Dataset,
    operator: type,
    arguments: dict[str, Any],
    workers: int,
    gpu: bool = False,
    share: int = 1,
    retries: int = -1,
) -> ray.data.Dataset:
    """`dataset` mapped row by row by `workers` actors of the callable class `operator`.

    `share`: how many such operators share the machine. An actor takes a little less than its part of the CPUs, so
    that reading never waits for a core that an actor holds. `retries`: of a row whose worker is gone, -1: for ever. A lost
    node uses up any number in a second, since Ray goes on asking its actors until it knows of the loss: only -1 outlives
    that, and is for who finds what ends a worker again and again.
    """
    cpus = ray.cluster_resources().get("CPU", 1)
    with warnings.catch_warnings():
        # Ray 2.60 announces the end of this argument and has no other for the retries of an actor's tasks
        warnings.simplefilter("ignore")
        return dataset.map(
            operator,
            fn_constructor_kwargs=arguments,
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_cpus=0.9 * min(1.0, cpus / (workers * share)),
            num_gpus=1 if gpu else 0,
            max_task_retries=retries,
        )


def map_with_tasks(
    rows: Iterable[Any], function: Callable[[Any], Any], when_killed: Callable[[Any], Any] | None = None
) -> Iterator[Any]:
    """`function(row)` for each row, a Ray task each; results as they come. At most a few more than there are CPUs wait.

    For small independent work; `map_with_actors` is for what streams data and holds models. A row whose task fails for
    the world's reasons is done again. `when_killed`: done in its place for a row whose process was ended; without it
    the same is tried again.
    """

    def task(call: Callable[[Any], Any], retries: int) -> Any:
        return ray.remote(num_cpus=0.9, max_retries=retries)(lambda row: counting_retries(patiently(call), row))

    usual = task(function, 0 if when_killed else LOST_WORKERS)
    careful = task(when_killed, LOST_WORKERS) if when_killed else None
    room = 2 * int(ray.cluster_resources().get("CPU", 1)) + 2
    waiting: dict[ray.ObjectRef, Any] = {}  # the row; None once it is done carefully

    def next_result() -> Iterator[Any]:
        (ready,), _ = ray.wait(list(waiting), num_returns=1)
        row = waiting.pop(ready)
        try:
            answer = ray.get(ready)
        except PROCESS_ENDED:
            if careful is None or row is None:
                raise
            waiting[careful.remote(row)] = None
        else:
            yield _counted(answer)

    for row in rows:
        waiting[usual.remote(row)] = row
        if len(waiting) >= room:
            yield from next_result()
    while waiting:
        yield from next_result()


def _counted(answer: tuple[Any, int]) -> Any:
    result, retried = answer
    add_retried(retried)
    return result


def worker_count(asked: int | None, units: int, gpu: bool = False, share: int = 1) -> int:
    """The number of actors of an operator: `asked`, or one for each CPU (or GPU), but at most `units`."""
    have = ray.cluster_resources()
    free = have.get("GPU", 1) if gpu else have.get("CPU", 1) // share
    return int(max(1, min(asked or free, units)))
