"""The log of a RayJob while it grows: that of the pod which submits it, whose lines carry the time they were written at."""

from __future__ import annotations

import subprocess
import threading

from common.progress import console

CONTEXT = 30  # lines of the past that are shown of a job that is taken up again
PATIENCE = 20.0  # seconds for the last lines after the end


class SubmitterLog:
    """Written to stderr by a thread; each line once, also after a broken connection and of a next attempt's pod."""

    def __init__(self, kubectl: str, name: str, again: bool):
        self._command = [kubectl, "logs", "--follow", "--timestamps", f"job/{name}"]
        self._last, self._tail = "", [f"--tail={CONTEXT}"] if again else []
        self._process: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None

    def keep_up(self) -> None:
        """Begin to follow where nothing follows now."""
        if self._thread is not None and self._thread.is_alive():
            return
        past = [f"--since-time={self._last}"] if self._last else self._tail
        self._process = subprocess.Popen(
            [*self._command, *past],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # a pod that has not begun, a connection that broke: tried again
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._thread = threading.Thread(target=self._write, name="job log", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Show what is left of an ended job's log, whose pod stays."""
        if self._thread is not None:
            self._thread.join(PATIENCE)
        self.keep_up()
        self._thread.join(PATIENCE)
        self.leave()

    def leave(self) -> None:
        """Show nothing more."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _write(self) -> None:
        # the time of RFC 3339 in UTC, with nine digits or as many as are no zeros: compared as far as both have them
        for line in self._process.stdout:
            written, _, text = line.partition(" ")
            if _comparable(written) <= _comparable(self._last):
                continue
            self._last = written
            console.file.write(text)
            console.file.flush()


def _comparable(written: str) -> str:
    whole, _, fraction = written.rstrip("Z").partition(".")
    return f"{whole}.{fraction:0<9}"
