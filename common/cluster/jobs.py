"""Runs one of our job scripts as a Ray job on a cluster: submits it, shows its log, returns its exit code.

A job that is at work on the same thing already is taken up again, not doubled.
"""

from __future__ import annotations

import datetime
import logging
import os
import shlex
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from common.cluster.environment import SECRETS
from common.cluster.following import LEFT, follow
from common.cluster.job import COMMAND, WORKS_ON, Job
from common.cluster.kuberay import run_on_kuberay
from common.cluster.places import reached, run_in_compose
from common.errors import UserError
from common.failures.mendable import first_line
from common.progress import say

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

ROOT = Path(__file__).resolve().parent.parent.parent
UNUSUAL, GIVEN_UP = 30.0, 300.0  # seconds for a head to take a job, the code's upload with it
EXCLUDED = [".venv", ".git", "runs", "**/__pycache__", ".pytest_cache", ".ruff_cache", "tests"]


class ClusterError(UserError, RuntimeError):
    """The cluster cannot take the job; the message says what to check."""


def run_on_cluster(cluster: str, job: Job) -> int:
    """Run `job` on a cluster and show its log until it ends. Returns its exit code; says on stderr why it failed.

    Args:
        cluster: what CLUSTER=... names (places.py).

    Raises:
        ClusterError: nothing answers there, or another command is at work on the same thing.
    """
    if cluster == "compose":
        return run_in_compose(job)
    if cluster == "kuberay" or cluster.startswith("kuberay:"):
        return run_on_kuberay(cluster, job)
    from ray.job_submission import JobStatus

    with reached(cluster) as address:
        client = _client_of(cluster, address)
        name, again = _begun_or_submitted(client, job, address, job.variables())
        status = follow(client, address, name, again, job.stop)
        if status == LEFT:
            return LEFT
        if status == JobStatus.SUCCEEDED:
            return 0
        info = client.get_job_info(name)
        print(f"job {name} ended as {status}: {info.message}", file=sys.stderr)
        return info.driver_exit_code or 1


def _client_of(cluster: str, address: str) -> JobSubmissionClient:
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    for chatty in ("ray.dashboard.modules.dashboard_sdk", "ray._private.runtime_env.packaging"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        client = JobSubmissionClient(address)
        client.list_jobs()
    except AuthenticationError as error:
        raise ClusterError(
            f"CLUSTER={cluster}: the cluster wants another token than this shell has ({first_line(error)}). Set "
            "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH (or RAY_AUTH_TOKEN) to the cluster's: docs/cluster.md"
        ) from None
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise ClusterError(
            f"CLUSTER={cluster}: no Ray cluster answers there ({first_line(error)}). Give the address of the head's "
            "dashboard, e.g. http://head:8265, and check that it can be reached from here"
        ) from None
    return client


def _begun_or_submitted(
    client: JobSubmissionClient, job: Job, address: str, variables: dict[str, str]
) -> tuple[str, bool]:
    """The job's name, and whether it was at work before.

    Raises:
        ClusterError: another command works on the same.
    """
    for other in client.list_jobs():
        if other.status.is_terminal() or (other.metadata or {}).get(WORKS_ON) != job.works_on:
            continue
        name = str(other.submission_id)
        if other.metadata.get(COMMAND) != job.metadata[COMMAND]:
            raise ClusterError(
                f"job {name} is at work on the same ({job.works_on}) with another command, {_since(other)}: "
                f"{other.metadata.get(COMMAND)}\n  wait for it, or end it: ray job stop --address {address} {name}"
            )
        say("submit", f"job {name} is this command, {_since(other)}: taken up again")
        return name, True
    name = _in_time(lambda: _submit_when_ready(client, job, variables), address)
    say("submit", f"job {name} on {address}")
    if sent := sorted(SECRETS & variables.keys()):
        say("submit", f"PASS_SECRETS=1: {', '.join(sent)} can be read by whoever can see the jobs of this cluster")
    return name, False


def _since(other: JobDetails) -> str:
    if not other.start_time:
        return "about to start"
    began = datetime.datetime.fromtimestamp(other.start_time / 1000).astimezone()
    return f"since {began.isoformat(sep=' ', timespec='minutes')}"


def _in_time(submit: Callable[[], str], address: str) -> str:
    """What `submit` gives. A head whose agent did not start answers, and takes no job: it lets the request wait for ever.

    Raises:
        ClusterError: the head does not take it.
    """
    told: list[str | Exception] = []

    def run() -> None:
        try:
            told.append(submit())
        except Exception as error:  # noqa: BLE001  raised below, where it can be
            told.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    why = (
        "the head answers and does not take the job. Its agent may not have started: two Rays on one machine want another "
        "`--dashboard-agent-listen-port` each; the head's logs/dashboard_agent.log tells"
    )
    thread.join(UNUSUAL)
    if thread.is_alive():
        say("submit", f"{address}: {why}. Waiting until {GIVEN_UP:.0f} s have passed", style="yellow")
        thread.join(GIVEN_UP - UNUSUAL)
    if not told:
        raise ClusterError(f"{address}: {why}")
    if isinstance(told[0], Exception):
        raise told[0]
    return told[0]


def _too_large() -> str:
    """Of the code that is sent along: which of its folders are large."""
    sizes = {
        place.name: sum(
            file.stat().st_size for file in ([place] if place.is_file() else place.rglob("*")) if file.is_file()
        )
        for place in ROOT.iterdir()
        if place.name not in EXCLUDED
    }
    largest = ", ".join(
        f"{name} {sizes[name] / 1e6:,.0f} MB" for name in sorted(sizes, key=sizes.get, reverse=True)[:3]
    )
    return (
        f"this folder goes along with a job, and it is too large for the cluster ({largest}): move models and pictures out of it, "
        "or into runs/, which stays here"
    )


def _submit_when_ready(client: JobSubmissionClient, job: Job, variables: dict[str, str]) -> str:
    """Submit a job, trying for 20 s: a head that has just started answers before it can take one."""
    for attempt in range(20):
        try:
            return client.submit_job(
                entrypoint=shlex.join(job.command),
                runtime_env={"working_dir": os.fspath(ROOT), "excludes": EXCLUDED, "env_vars": variables},
                metadata=job.metadata,
            )
        except RuntimeError as error:
            if "Maximum request body size" in str(error):
                raise ClusterError(_too_large()) from None
            if "No available agent" not in str(error) or attempt == 19:
                raise
            time.sleep(1)
    raise AssertionError("unreachable")
