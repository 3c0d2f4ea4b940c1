"""What a command took, with all processes that it started, Ray's among them."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

LOOK_EVERY = 0.2  # seconds


@dataclass(frozen=True)
class Measured:
    """Of a command: `seconds` by the clock, `core_seconds` of it and its descendants, `megabytes` that the command's own
    process held at most, `said`: its last lines where it failed."""

    seconds: float
    core_seconds: float
    megabytes: float
    code: int
    said: str


def measured(arguments: list[str], log: Path) -> Measured:
    """Run a command of this Python to its end; what it says goes to a file."""
    began = time.perf_counter()
    spent: dict[tuple[int, float], float] = {}
    held = 0.0
    with log.open("w") as file:
        process = psutil.Popen([sys.executable, *arguments], stdout=file, stderr=subprocess.STDOUT)
        while process.poll() is None:
            try:
                for one in (process, *process.children(recursive=True)):
                    times = one.cpu_times()
                    spent[one.pid, one.create_time()] = times.user + times.system
                held = max(held, _peak_of(process.pid))
            except psutil.NoSuchProcess:
                continue  # it ended between two looks
            time.sleep(LOOK_EVERY)
    text = log.read_text(errors="replace")
    return Measured(time.perf_counter() - began, sum(spent.values()), held, process.returncode, text[-2000:])


def _peak_of(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return max((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), default=0.0)
