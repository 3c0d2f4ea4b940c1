"""Core-seconds of a command and of every process that it starts, also of those that end or lose their parent."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Sequence

import psutil

GLANCE = 0.25  # seconds: what a process uses after the last look at it, before it ends, is lost


def core_seconds_of(command: Sequence[str]) -> float:
    """Run `command` to its end. Ray's raylet disowns its workers, so that no parent is told what they used."""
    used: dict[tuple[int, float], float] = {}
    known: dict[int, psutil.Process] = {}
    ended = threading.Event()

    def look() -> None:
        for process in list(known.values()):
            with contextlib.suppress(psutil.NoSuchProcess):
                known.update({child.pid: child for child in process.children() if child.pid not in known})
        for pid, process in list(known.items()):
            try:
                times = process.cpu_times()
                used[pid, process.create_time()] = times.user + times.system
            except psutil.NoSuchProcess:
                del known[pid]

    def watch() -> None:
        while not ended.wait(GLANCE):
            look()

    with subprocess.Popen(command) as running:
        known[running.pid] = psutil.Process(running.pid)
        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            if running.wait():
                raise subprocess.CalledProcessError(running.returncode, command)
        finally:
            ended.set()
            watcher.join()
    return sum(used.values())
