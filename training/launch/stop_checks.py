"""How a run is asked to stop: by a signal, or by a file OUT/stop, which also reaches workers that take no signals."""

from __future__ import annotations

import signal
import time

import fsspec

from common.paths import is_local, open_place
from training.stop_request import StopCheck, StopRequest

STOP_POLL = 10.0  # seconds between two looks for the stop file in an object store: each is a request


def stop_on_signal() -> StopCheck:
    """STOP after SIGTERM or SIGINT. Only in a main thread."""
    received: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: received.append(number))
    return lambda step: StopRequest.STOP if received else StopRequest.NONE


def stop_on_file(out: str, rank: int) -> StopCheck:
    """STOP once OUT/stop is there: how a run in Ray's worker threads, which take no signals, is asked to end.

    Rank 0 looks: after each step on a disk, every 10 seconds in an object store.
    """
    fs, place = _stop_file(out)
    every = 0.0 if is_local(fs) else STOP_POLL
    looked = time.monotonic()

    def check(step: int) -> StopRequest:
        nonlocal looked
        if rank or time.monotonic() - looked < every:
            return StopRequest.NONE
        looked = time.monotonic()
        fs.invalidate_cache()
        return StopRequest.STOP if fs.exists(place) else StopRequest.NONE

    return check


def any_of(*checks: StopCheck) -> StopCheck:
    """All of these checks as one; the highest request counts."""
    return lambda step: max(check(step) for check in checks)


def request_stop(out: str) -> None:
    """Leave OUT/stop for the ranks."""
    fs, place = _stop_file(out)
    fs.makedirs(place.rpartition("/")[0], exist_ok=True)
    fs.pipe_file(place, b"")


def clear_stop_request(out: str) -> None:
    """Remove OUT/stop, which stopped the run before: whoever starts a run wants it to go on."""
    fs, place = _stop_file(out)
    if fs.exists(place):
        fs.rm_file(place)


def _stop_file(out: str) -> tuple[fsspec.AbstractFileSystem, str]:
    fs, root = open_place(out)
    return fs, f"{root.rstrip('/')}/stop"
