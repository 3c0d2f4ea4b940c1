"""Shows the log of a Ray job while it grows, until the job ends or the person leaves it.

A log is sent once: after a broken connection only its last lines are asked for, and those that were shown are left out.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import requests

from common.progress import console, say

if TYPE_CHECKING:
    from ray.job_submission import JobStatus, JobSubmissionClient

LEFT = 130  # the exit code of who leaves a job at work, as a shell has it for Ctrl-C
OVERLAP = 1000  # lines asked for after a break, to find the place where it was
CONTEXT = 30  # lines of the past that are shown of a job that is taken up again
STATUS_EVERY = 1.0  # seconds
INTERVAL = 0.5  # seconds between two looks of the cluster at the log's file
SILENT = 300.0  # seconds after which a connection on which nothing came is made anew
PAUSE = 1.0  # seconds before a broken connection is tried again
WHOLE = -1
BROKEN = (requests.RequestException, RuntimeError)


def follow(
    client: JobSubmissionClient, address: str, job: str, again: bool, stop: Callable[[], None] | None = None
) -> JobStatus | int:
    """Show a job's log until the job ends; its status, or LEFT where the person leaves it at work.

    `again`: it was at work before, so that its log begins with the last lines. `stop`: how it is asked to end.
    """
    log = _Log(client, address, job, CONTEXT if again else WHOLE)
    log.start()
    while True:
        try:
            status = client.get_job_status(job)
            if status.is_terminal():
                log.finish()
                return status
            time.sleep(STATUS_EVERY)
        except KeyboardInterrupt:
            answer = asked_what_to_do()
            if answer == "leave":
                log.leave()
                say("submit", f"job {job} goes on. The same command shows it again; this ends it:")
                say("submit", f"ray job stop --address {address} {job}")
                return LEFT
            if answer == "stop":
                say("submit", f"stopping job {job}")
                stop() if stop else client.stop_job(job)
        except BROKEN as error:
            say(
                "submit",
                f"the cluster does not answer ({str(error).splitlines()[0][:120]}); trying on, Ctrl-C leaves it",
            )
            time.sleep(5 * STATUS_EVERY)


def asked_what_to_do() -> str:
    """ "leave", "stop" or "watch"; where nobody can be asked, or Ctrl-C is the answer, the job is left at work."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return "leave"
    with contextlib.suppress(KeyboardInterrupt, EOFError):
        console.print(
            "\nThe job goes on without this terminal. [Enter]: leave it at work   s: stop it   w: watch on",
            markup=False,
        )
        answer = input("> ").strip().lower()
        return {"s": "stop", "w": "watch"}.get(answer[:1], "leave")
    return "leave"


class _Log:
    """A thread that writes what comes to stderr."""

    def __init__(self, client: JobSubmissionClient, address: str, job: str, lines: int):
        self.client, self.url, self.job, self.lines = client, f"{address.rstrip('/')}/api/v0/logs", job, lines
        self.shown = b""  # its end
        self._ended, self._writing = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._run, name="job log", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def leave(self) -> None:
        """Show nothing more."""
        with self._writing:
            self._ended.set()

    def finish(self) -> None:
        """Show what is left of an ended job's log."""
        self._ended.set()
        self._thread.join(3 * INTERVAL)  # it may wait for more, which will not come
        with self._writing, contextlib.suppress(*BROKEN):
            self._write(self._new(b"".join(self._chunks("file"))))

    def _run(self) -> None:
        while not self._ended.is_set():
            begun = bytearray() if self.shown else None  # after a break: the old lines come first, in pieces
            with contextlib.suppress(*BROKEN):  # a proxy's time limit, a head that is busy
                for chunk in self._chunks("stream"):
                    with self._writing:
                        if self._ended.is_set():
                            return
                        if begun is None:
                            self._write(chunk)
                            continue
                        begun += chunk
                        if len(begun) >= len(self.shown):
                            self._write(self._new(bytes(begun)))
                            begun = None
            self._ended.wait(PAUSE)

    def _chunks(self, kind: str) -> Iterator[bytes]:
        from ray._private.authentication.http_token_authentication import get_auth_headers_if_auth_enabled

        lines = OVERLAP if self.shown else self.lines
        node = self.client.get_job_info(self.job).driver_node_id
        if not node:
            return  # it is not begun
        asked = {"submission_id": self.job, "node_id": node, "lines": lines, "timeout": 30}
        asked |= {"interval": INTERVAL} if kind == "stream" else {}
        headers = get_auth_headers_if_auth_enabled({})
        with requests.get(f"{self.url}/{kind}", asked, headers=headers, stream=True, timeout=(10, SILENT)) as answer:
            if answer.status_code == 200:
                yield from answer.iter_content(chunk_size=None)

    def _new(self, told: bytes) -> bytes:
        """Of the last lines of a log, what was not shown yet."""
        if not self.shown:
            return told
        at = told.rfind(self.shown)
        if at >= 0:
            return told[at + len(self.shown) :]
        return told if len(told) > len(self.shown) else b""

    def _write(self, data: bytes) -> None:
        # fewer lines than are asked for after a break
        self.shown = b"".join((self.shown + data)[-4096:].splitlines(keepends=True)[-OVERLAP // 2 :])
        console.file.write(data.decode(errors="replace"))
        console.file.flush()
