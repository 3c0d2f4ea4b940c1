"""Where a cluster tells what it knows: looked through for words that nobody may read there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import requests
from ray._private.authentication.http_token_authentication import get_auth_headers_if_auth_enabled
from ray.job_submission import JobSubmissionClient

from curation.run_directory.run import Run
from tests.ray_nodes import OwnRay

# what the dashboard's pages ask its head for
PAGES = (
    "api/jobs/", "api/v0/jobs?detail=1", "api/v0/actors?detail=1", "api/v0/tasks?detail=1", "api/v0/workers?detail=1",
    "api/v0/runtime_envs", "api/v0/nodes?detail=1", "api/v0/placement_groups", "nodes?view=summary", "logical/actors",
    "api/cluster_status", "api/component_activities", "events",
)  # fmt: skip
READ_AT_LEAST = 8  # of them: pages come and go with Ray's versions


def told(own: OwnRay, run: Run | None = None) -> Iterator[tuple[str, bytes]]:
    """(where, what) for each page of the dashboard, each job's log and metadata, each log of each node's Ray, and each file
    of the run directory."""
    headers = get_auth_headers_if_auth_enabled({})
    read = 0
    for page in PAGES:
        answer = requests.get(f"{own.dashboard}/{page}", headers=headers, timeout=60)
        if answer.ok:
            read += 1
            yield page, answer.content
    assert read >= READ_AT_LEAST, f"only {read} pages of the dashboard could be read"
    client = JobSubmissionClient(own.dashboard)
    for job in client.list_jobs():
        yield f"job {job.submission_id}", json.dumps(job.dict(), default=str).encode()
        if job.submission_id:
            yield f"log of job {job.submission_id}", client.get_job_logs(job.submission_id).encode()
    for path in [*(node.folder / "said.txt" for node in own.nodes), *_logs(own.folder)]:
        yield str(path), path.read_bytes()
    for path in run.files() if run else ():
        if run.size(path):
            yield path, run.read_bytes(path)


def _logs(folder: Path) -> list[Path]:
    return [path for path in folder.glob("ray*/session_2*/logs/**/*") if path.is_file() and not path.is_symlink()]


def found(words: dict[str, str], places: Iterator[tuple[str, bytes]]) -> list[str]:
    """ "NAME in PLACE" for each of the words that is told somewhere."""
    return [f"{name} in {place}" for place, text in places for name, word in words.items() if word.encode() in text]
