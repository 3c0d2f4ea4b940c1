"""Connects a command to Ray: a running cluster, or a local one."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import ray

from common.cluster.environment import forwarded_environment, job_environment
from common.cluster.token import private_token
from common.errors import UserError
from common.failures.mendable import first_line

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
    # else its metrics are served to whoever asks, on every interface; Ray has no switch for two of its servers, and goes on
    # where they cannot have their port
    "RAY_enable_metrics_collection": "0",
    "AUTOSCALER_METRIC_PORT": "-1",
    "DASHBOARD_METRIC_PORT": "-1",
    # workers of one step serve the next: starting one costs seconds of imports
    "RAY_idle_worker_killing_time_threshold_ms": "300000",
    # its core prints, for every actor pool of Ray Data, that the pool's arguments live in the object store
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}


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
    with _joined() if joining else local_ray(cpus), _stopped_as_by_ctrl_c():
        yield


@contextlib.contextmanager
def _stopped_as_by_ctrl_c() -> Iterator[None]:
    """SIGTERM and a terminal that is closed tidy up, too: Ray's own handler, set when it starts, prints its stack and ends
    the process on the spot. What was started with nohup stays deaf to SIGHUP."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
    # what it logs as an error it raises, too; the log would show the stack of what is one message for a person
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    # a block is one part: splitting it would split the files that are written from it
    context.target_max_block_size = None
    context.max_errored_blocks = 0
    # what a worker raises arrives as it was raised: whether a person can mend it is told by its class
    context.raise_original_map_exception = True
