"""Finds the image that kills a worker: a unit in which one has died is scored image by image in a child process.

Native decoders and models can end a process, never return, or take all memory, and no `except` of Python's helps. The
child says what it is about to do with which image before it does it, under limits of CPU and memory. When it ends
there, the same image is tried once more in a new child. Ending there twice is the image's fault and becomes its row;
ending once is not: somebody may have killed the child from outside.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from common.decode.limits import CHILD_CPU_SECONDS, CHILD_MEMORY
from common.failures.transient import is_memory
from curation.filters.base import FilterBroken

DECODER = "decoder"  # the stage before the filters
# Seconds for one stage of a batch; a worker that takes longer is ended. Beside other work a stage may wait long for a core.
STAGE_SECONDS = 300
START_SECONDS = 600  # for a child that loads the models
TRIES = 2
OUTLASTED, KILLED = "outlasted", "killed"
OUT_OF_MEMORY = 77  # exit code of a child whose memory did not suffice

At = tuple[str, str]  # the id of an image, and the stage: DECODER or a filter's name
Blame = dict[At, str]  # what each did twice: KILLED or OUTLASTED


Watch = Callable[[str, list[str]], AbstractContextManager[None]]  # (stage, ids): around what may end the process


_deadlines: dict[object, float] = {}  # of the stages that threads of this process are in
_deadlines_lock = threading.Lock()


@contextmanager
def alarm(stage: str, ids: list[str]) -> Iterator[None]:
    """Around a stage of a worker, in any of its threads: the kernel ends the process if it takes too long, also inside C
    code. Not around what waits for a store: that is no image's fault."""
    mine = object()
    with _deadlines_lock:
        _deadlines[mine] = time.monotonic() + STAGE_SECONDS
        _set_timer()
    try:
        yield
    finally:
        with _deadlines_lock:
            del _deadlines[mine]
            _set_timer()


def _set_timer() -> None:
    """The process has one timer: it stands on the first of the deadlines."""
    left = min(_deadlines.values()) - time.monotonic() if _deadlines else None
    signal.setitimer(signal.ITIMER_REAL, 0 if left is None else max(left, 0.001))


@dataclass
class Watched:
    """What the parent knows of the images of a unit while children try them."""

    deaths: Counter[At] = field(default_factory=Counter)
    blame: Blame = field(default_factory=dict)

    def note(self, at: At, how: str) -> None:
        self.deaths[at] += 1
        if self.deaths[at] >= TRIES:
            self.blame[at] = how


def run_in_children(make_operator: Callable[..., Any], row: dict[str, Any]) -> dict[str, Any]:
    """What `make_operator(watch=..., blame=...)` makes of a unit's row, in a child, however many images end it.

    Raises:
        FilterBroken: children end before they come to an image.
        Exception: what the operator itself raises.
    """
    watched, unstarted = Watched(), 0
    while True:
        answer, at, how = _one_child(make_operator, row, watched.blame)
        if isinstance(answer, BaseException):
            raise answer
        if answer is not None:
            return answer
        if at is None:
            unstarted += 1
            if unstarted > TRIES:
                raise FilterBroken(
                    f"a process that loads the filters was ended {unstarted} times ({how}) before it scored"
                )
        else:
            watched.note(at, how)


def _one_child(
    make_operator: Callable[..., Any], row: dict[str, Any], blame: Blame
) -> tuple[dict[str, Any] | BaseException | None, At | None, str]:
    """(the scored row or an error, or None where the child ended; what it was at; how it ended)."""
    context = multiprocessing.get_context("spawn")  # a forked one would inherit the locks of Ray's threads
    mine, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(theirs, make_operator, row, blame), name="careful scoring")
    child.start()
    theirs.close()
    at: At | None = None
    limit: float | None = START_SECONDS
    try:
        while mine.poll(limit):
            kind, told = mine.recv()
            if kind == "answer":
                return told, at, ""
            at = told
            limit = STAGE_SECONDS if at else None  # between stages it may wait for a store
        child.kill()
        child.join()
        return None, at, OUTLASTED
    except EOFError:
        child.join()
        return None, at, OUTLASTED if child.exitcode == -signal.SIGXCPU else KILLED
    finally:
        if child.is_alive():
            child.kill()
        child.join()
        mine.close()


def _child(pipe: Connection, make_operator: Callable[..., Any], row: dict[str, Any], blame: Blame) -> None:
    @contextmanager
    def watch(stage: str, ids: list[str]) -> Iterator[None]:
        used = resource.getrusage(resource.RUSAGE_SELF)
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + CHILD_CPU_SECONDS + 1, hard))
        pipe.send(("at", (ids[0], stage)))
        try:
            yield
        except Exception as error:
            if is_memory(error):  # this image's: the process ends with it
                os._exit(OUT_OF_MEMORY)
            raise
        finally:
            resource.setrlimit(resource.RLIMIT_CPU, (hard, hard))
            pipe.send(("at", None))

    try:
        operator = make_operator(watch=watch, blame=blame)
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (_virtual_memory() + CHILD_MEMORY, hard))
        answer: Any = operator(row)
    except Exception as error:  # noqa: BLE001  the parent raises it
        answer = error
    try:
        pipe.send(("answer", answer))
    except Exception as error:  # noqa: BLE001  an error that cannot be sent must not look like an image's
        pipe.send(("answer", FilterBroken(f"{type(answer).__name__}: {answer} ({type(error).__name__}: {error})")))


def _virtual_memory() -> int:
    """Bytes of address space that this process has."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()
