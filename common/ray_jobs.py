"""A command of jobs/ as a Ray job on a cluster: sent, its log shown, its exit code returned."""

from __future__ import annotations

import shlex
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = [".venv", ".git", "runs", "**/__pycache__", ".pytest_cache", ".ruff_cache", "tests"]


class NoCluster(RuntimeError):
    """Nothing answers at the address, or the job failed; the message says what to check. `code`: the job's own."""

    code = 1


def client_of(cluster: str):
    """A client of the dashboard at `cluster`.

    Raises:
        NoCluster: nothing answers there.
    """
    from ray.job_submission import JobSubmissionClient

    try:
        client = JobSubmissionClient(cluster)
        client.list_jobs()
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise NoCluster(
            f"CLUSTER={cluster}: no Ray cluster answers there ({str(error).splitlines()[0]}). Give the "
            "address of the head's dashboard, e.g. http://head:8265, and check that it can be reached from here"
        ) from None
    return client


def follow(client, cluster: str, command: list[str], environment: dict[str, str]) -> None:
    """Submit `command`, with this project as its working folder, and show its log until it ends.

    Raises:
        NoCluster: the job did not succeed.
    """
    from ray.job_submission import JobStatus

    from common.progress import console, say

    job = _submit_when_ready(client, command, environment)
    say("submit", f"job {job} on {cluster}")
    shown = 0
    while True:
        status = client.get_job_status(job)
        log = client.get_job_logs(job)
        console.file.write(log[shown:])
        console.file.flush()
        shown = len(log)
        if status.is_terminal():
            break
        time.sleep(1)
    if status != JobStatus.SUCCEEDED:
        told = client.get_job_info(job)
        failed = NoCluster(f"job {job} ended as {status}: {told.message}")
        failed.code = told.driver_exit_code or 1
        raise failed


def _submit_when_ready(client, command: list[str], environment: dict[str, str]) -> str:
    """A head that has just started answers before it can take a job: ask again for a while."""
    for attempt in range(20):
        try:
            return client.submit_job(
                entrypoint=shlex.join(command),
                runtime_env={"working_dir": str(ROOT), "excludes": LEFT_OUT, "env_vars": environment},
            )
        except RuntimeError as error:
            if "No available agent" not in str(error) or attempt == 19:
                raise
            time.sleep(1)
    raise AssertionError("unreachable")
