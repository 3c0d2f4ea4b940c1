"""Runs one of our job scripts as a Ray job on a cluster: submits it, shows its log, returns its exit code.

Ray is imported only where it is used: what runs without it asks here whether it is inside a job.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from common.errors import UserError
from common.progress import console, say

if TYPE_CHECKING:
    from ray.job_submission import JobStatus, JobSubmissionClient

# of this process's environment, what workers elsewhere need to find the same files
FORWARDED = (
    "FACEMAKEUP_WEIGHTS",
    "FACEMAKEUP_CACHE",
    "AWS_ENDPOINT_URL",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_DEFAULT_REGION",
)
JOB_CONFIG_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # set by Ray for the entrypoint of a job
ROOT = Path(__file__).resolve().parent.parent
EXCLUDED = [".venv", ".git", "runs", "**/__pycache__", ".pytest_cache", ".ruff_cache", "tests"]
RECIPE_VARIABLE = "FACEMAKEUP_RECIPE_BASE64"  # in base64, since Ray would fill in what looks like ${NAME}


class ClusterError(UserError, RuntimeError):
    """No Ray cluster answers at the address; the message says what to check."""


def forwarded_environment() -> dict[str, str]:
    """Those of the variables FORWARDED that are set here."""
    return {name: os.environ[name] for name in FORWARDED if name in os.environ}


def inside_job() -> bool:
    """Whether this process is the entrypoint of a Ray job."""
    return JOB_CONFIG_VARIABLE in os.environ


def job_environment() -> dict[str, str]:
    """The variables that the Ray job around this process was submitted with; none outside a job."""
    config = json.loads(os.environ.get(JOB_CONFIG_VARIABLE) or "{}")
    return (config.get("runtime_env") or {}).get("env_vars") or {}


def submit_script(
    cluster: str, command: list[str], recipe: str | None, environment: Mapping[str, str] | None = None
) -> int:
    """Run `command` as a Ray job and show its log until it ends. Returns its exit code; says on stderr why it failed.

    Args:
        cluster: the address of the dashboard, e.g. http://head:8265.
        command: starts with "python"; it runs in a copy of this project.
        recipe: a recipe's text, which the job reads with `submitted_recipe`: the cluster may not have the file.
        environment: variables of the job, besides those of `forwarded_environment`.

    Raises:
        ClusterError: nothing answers at the address.
    """
    from ray.job_submission import JobStatus

    client = _client_of(cluster)
    variables = {**forwarded_environment(), **(environment or {})}
    if recipe:
        variables[RECIPE_VARIABLE] = base64.b64encode(recipe.encode()).decode()
    job = _submit_when_ready(client, command, variables)
    say("submit", f"job {job} on {cluster}")
    status = asyncio.run(_show_log(client, job))
    if status == JobStatus.SUCCEEDED:
        return 0
    info = client.get_job_info(job)
    print(f"job {job} ended as {status}: {info.message}", file=sys.stderr)
    return info.driver_exit_code or 1


def submitted_recipe() -> str | None:
    """The text of the recipe that came with this job; None: none came, or this is no job."""
    encoded = os.environ.get(RECIPE_VARIABLE)
    return base64.b64decode(encoded).decode() if encoded else None


def _client_of(cluster: str) -> JobSubmissionClient:
    from ray.job_submission import JobSubmissionClient

    try:
        client = JobSubmissionClient(cluster)
        client.list_jobs()
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise ClusterError(
            f"CLUSTER={cluster}: no Ray cluster answers there ({str(error).splitlines()[0]}). Give the "
            "address of the head's dashboard, e.g. http://head:8265, and check that it can be reached from here"
        ) from None
    return client


async def _show_log(client: JobSubmissionClient, job: str) -> JobStatus:
    """Write the job's log to stderr as it grows. Returns the status that it ended with."""
    from aiohttp import ClientError

    logging.getLogger("ray.dashboard.modules.job.sdk").setLevel(logging.WARNING)  # it reports each closed connection
    shown = 0
    while True:
        position = 0  # a new connection sends the log from its beginning
        try:
            async for text in client.tail_job_logs(job):
                _write(text[max(0, shown - position) :])
                position += len(text)
                shown = max(shown, position)
        except (RuntimeError, ClientError):
            pass  # the connection broke, or a proxy forbids web sockets: the job's status decides
        status = client.get_job_status(job)
        if status.is_terminal():
            _write(client.get_job_logs(job)[shown:])
            return status
        await asyncio.sleep(1)


def _write(text: str) -> None:
    console.file.write(text)
    console.file.flush()


def _submit_when_ready(client: JobSubmissionClient, command: list[str], environment: dict[str, str]) -> str:
    """Submit a job, trying for 20 s: a head that has just started answers before it can take one."""
    for attempt in range(20):
        try:
            return client.submit_job(
                entrypoint=shlex.join(command),
                runtime_env={"working_dir": str(ROOT), "excludes": EXCLUDED, "env_vars": environment},
            )
        except RuntimeError as error:
            if "No available agent" not in str(error) or attempt == 19:
                raise
            time.sleep(1)
    raise AssertionError("unreachable")
