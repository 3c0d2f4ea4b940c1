"""The Ray that a step runs on: one that is there already, or a local one made for the occasion."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator

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


@contextlib.contextmanager
def connected(cpus: int | None = None) -> Iterator[None]:
    """Ray for the time of a `with`: joins the cluster of `RAY_ADDRESS` or of the running job, else starts one."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if ray.is_initialized():
        _settle()
        yield
        return
    joining = bool(os.environ.get("RAY_ADDRESS") or os.environ.get("RAY_JOB_ID"))
    if not joining:
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # a private Ray on loopback, gone with this process
    ray.init(
        address=None if joining else "local",
        num_cpus=None if joining else cpus,
        include_dashboard=None if joining else False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        configure_logging=True,
        runtime_env={"env_vars": {**QUIET, **SINGLE_THREAD}},
    )
    _settle()
    try:
        yield
    finally:
        ray.shutdown()


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


def is_terminal() -> bool:
    return sys.stderr.isatty()
