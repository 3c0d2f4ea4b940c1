"""python -m common.cluster.attempt COMMAND: what a RayJob's entry point runs, so that only what may heal is tried again.

KubeRay begins a failed job again on a new cluster, whatever its exit code. Code 2 says that a person has to change
something first: such a job ends as stopped, which is not tried again. Also `... attempt @FILE`, with a word on each line:
KubeRay hands an entry point through two shells.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time

from common.cluster.environment import JOB_CONFIG_VARIABLE
from common.progress import say

CHANGE_SOMETHING_FIRST = 2
PATIENCE = 120.0  # seconds in which the cluster ends a job that asked for it


def main(arguments: list[str] | None = None) -> int:
    """The command's exit code; inside a Ray job code 2 is not lived to see."""
    parser = argparse.ArgumentParser(description=__doc__, fromfile_prefix_chars="@")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="a variable of the command")
    parser.add_argument("--code", help="the hash of our source files where the job was sent from")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    asked = parser.parse_args(arguments)
    if asked.code:
        _say_where_the_code_differs(asked.code)
    # a stop is meant for the command, which may have work to save. A handler, unlike SIG_IGN, is not inherited
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    variables = dict(item.split("=", 1) for item in asked.env)
    code = subprocess.call(asked.command, env={**os.environ, **variables})
    signal.signal(signal.SIGTERM, before)
    if code == CHANGE_SOMETHING_FIRST and (name := _submission()):
        say("job", "exit code 2: something has to be changed first, so that this is not tried again")
        _stop(name)
    return code


def _say_where_the_code_differs(sent_from: str) -> None:
    from common.cluster.nodes import code_hash

    if code_hash() != sent_from:
        say("job", f"the image has other code ({code_hash()}) than the folder that sent this job ({sent_from})")


def _submission() -> str | None:
    """The name of the Ray job around this process."""
    config = json.loads(os.environ.get(JOB_CONFIG_VARIABLE) or "{}")
    return (config.get("metadata") or {}).get("job_submission_id")


def _stop(name: str) -> None:
    from ray.job_submission import JobSubmissionClient

    JobSubmissionClient().stop_job(name)
    time.sleep(PATIENCE)  # a job whose process has ended first would count as failed


if __name__ == "__main__":
    sys.exit(main())
