"""One driver at a time on a run directory, on a disk or in a bucket, without a lock that a crash would leave behind.

    RUN/drivers/NNNNNN.json   created by driver number N, if no other has created it: whose it is, and since when
    RUN/drivers/NNNNNN.beat   written by it every few seconds
    RUN/drivers/NNNNNN.end    written when it has ended

Who finds a driver before it that has not ended watches its beats by its own clock. While they go on it is refused; when
they stand still it takes the next number. A driver that finds a higher number than its own stops. What decides (which
ids are in a round, which sample is in which shard) is created only if it is not there, so that two that overlap for a
moment cannot decide two things.
"""

from __future__ import annotations

import contextlib
import datetime
import getpass
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.failures.mendable import first_line
from common.failures.transient import StillFailing
from common.progress import say
from common.storage import json_bytes
from curation.run_directory.run import Run

BEAT = 5.0  # seconds
TOLD = signal.SIGUSR2  # to this process itself: what was started in the background ignores SIGINT
STILL = 30.0  # seconds without a beat after which a driver counts as gone


class RunInUse(UserError, RuntimeError):
    """Another driver is at work in the run directory; the message says whose it is."""


class Overtaken(UserError, RuntimeError):
    """Another driver took this one for dead, and has gone on with the run."""


@contextlib.contextmanager
def only_driver(run: Run) -> Iterator[int]:
    """Inside a `with` no other driver works on this run. Gives the driver's number, higher than that of any before it.

    Raises:
        RunInUse: another one does.
        Overtaken: another one took over; the block is interrupted, wherever it is.
    """
    number = _take(run)
    ended, overtaken = threading.Event(), threading.Event()

    def tell(*_: object) -> None:
        raise Overtaken(
            f"{run.root}: another driver ({_who(run, number + 1)}) has gone on with this run while this one stood still. "
            "Nothing is lost; leave it to that one"
        )

    is_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(TOLD, tell) if is_main else None

    def beat() -> None:
        count = 0
        while not ended.wait(BEAT):
            try:
                if run.exists(_name(number + 1, "json")):
                    overtaken.set()
                    if is_main:  # also out of a sleep or a wait for workers
                        signal.pthread_kill(threading.main_thread().ident or 0, TOLD)
                    return
                count += 1
                run.write_bytes(_name(number, "beat"), str(count).encode())
            except (
                StillFailing,
                OSError,
            ) as error:  # others may take over; when the store is back, this one hears of it
                say("driver", f"the heartbeat cannot be written ({first_line(error)}); trying on")

    heart = threading.Thread(target=beat, name="heartbeat", daemon=True)
    heart.start()
    try:
        yield number
    finally:
        ended.set()
        heart.join()
        if is_main:
            signal.signal(TOLD, before)
        if not overtaken.is_set():
            run.write_bytes(_name(number, "end"), b"")


def token_of(run: Run, number: int) -> str:
    """What tells this driver's mark from any other's, and this run directory from another one of its name."""
    return str(run.read_json(_name(number, "json"))["token"])


def _name(number: int, kind: str) -> str:
    return f"drivers/{number:06d}.{kind}"


def _take(run: Run) -> int:
    """The number of this driver, which is now the run's."""
    while True:
        last = max((int(path[-11:-5]) for path in run.glob("drivers/*.json")), default=0)
        if last and not run.exists(_name(last, "end")):
            _wait_until_it_is_gone(run, last)
        if run.write_new(_name(last + 1, "json"), json_bytes(_myself())):
            return last + 1


def _wait_until_it_is_gone(run: Run, number: int) -> None:
    """Return when a driver has ended, or stood still for long enough.

    Raises:
        RunInUse: it is alive.
    """
    other = run.read_json(_name(number, "json"), ("host", "boot", "pid", "started"))
    mine = _myself()
    if (other["host"], other["boot"]) == (mine["host"], mine["boot"]) and _started(other["pid"]) != other["started"]:
        return  # it was a process of this machine, and is none any more
    say("start", f"{_who(run, number)} has this run directory: waiting up to {STILL:.0f} s to see whether it is alive")
    seen, deadline = _last_beat(run, number), time.monotonic() + STILL
    while time.monotonic() < deadline:
        time.sleep(min(1.0, STILL / 10))
        if run.exists(_name(number, "end")):
            return
        if _last_beat(run, number) != seen:
            raise RunInUse(
                f"{run.root} has a driver already: {_who(run, number)}. Wait until it is done, end it, or take another run "
                "directory with RUN=... (a report can be made meanwhile)"
            )
    say(
        "start",
        f"{_who(run, number)} has stood still for {STILL:.0f} s: going on without it. On the same Ray cluster end it, too: "
        "while it stands there Ray keeps its CPUs for it",
    )


def _last_beat(run: Run, number: int) -> bytes:
    return run.read_bytes(_name(number, "beat")) if run.exists(_name(number, "beat")) else b""


def _who(run: Run, number: int) -> str:
    told = run.read_json(_name(number, "json"), ("host", "pid", "user", "since"))
    return f"process {told['pid']} of {told['user']} on {told['host']}, since {told['since']}"


def _myself() -> dict[str, Any]:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = str(os.getuid())
    return {
        "host": socket.gethostname(),
        "boot": _text_of("/proc/sys/kernel/random/boot_id"),
        "pid": os.getpid(),
        "started": _started(os.getpid()),
        "user": user,
        "since": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "token": uuid.uuid4().hex,
    }


def _started(pid: int) -> str:
    """When a process of this machine began, in the kernel's clock ticks; "" where there is no such process."""
    # the name of the program, in parentheses, may hold anything
    fields = _text_of(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 and fields[0] != "Z" else ""


def _text_of(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
