"""Core-seconds of this process and of all that it has started, Ray's workers too, which end and leave no account."""

from __future__ import annotations

import os
import threading
from pathlib import Path

LOOK_EVERY = 0.25  # seconds; what a process takes between the last look and its end is lost
TICKS = os.sysconf("SC_CLK_TCK")


class CoreSeconds:
    """Counts inside a `with`; call it for the core-seconds since its beginning. Needs /proc, as Linux has it."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, str], tuple[int, int]] = {}  # of a process: ticks at first and at last
        self._begun = False
        self._lock, self._ended = threading.Lock(), threading.Event()

    def __enter__(self) -> CoreSeconds:
        self._look()
        self._thread = threading.Thread(target=self._look_on, name="core-seconds", daemon=True)
        self._thread.start()
        return self

    def __call__(self) -> float:
        self._look()
        with self._lock:
            return sum(last - first for first, last in self._seen.values()) / TICKS

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look_on(self) -> None:
        while not self._ended.wait(LOOK_EVERY):
            self._look()

    def _look(self) -> None:
        now = _processes()
        with self._lock:
            known = {pid for pid, started in self._seen if (now.get(pid) or ("", 0, 0))[0] == started}
            mine = _with_children({os.getpid()} | known, {pid: parent for pid, (_, parent, _) in now.items()})
            for pid in mine & now.keys():
                started, _, ticks = now[pid]
                # of what ran before, only what it takes from now on counts
                first = self._seen.get((pid, started), (0 if self._begun else ticks, 0))[0]
                self._seen[pid, started] = (first, ticks)
            self._begun = True


def _with_children(pids: set[int], parents: dict[int, int]) -> set[int]:
    found = set(pids)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def _processes() -> dict[int, tuple[str, int, int]]:
    """{pid: (when it began, its parent, ticks that it took)} of this machine."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # the name of the program, in parentheses, may hold anything
            fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        found[int(folder.name)] = (fields[19], int(fields[1]), int(fields[11]) + int(fields[12]))
    return found
