"""A toy of an operator, and images that do to a process what no `except` catches.

Children of their own import this module and what it imports, so it imports little.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from pathlib import Path

from curation.scoring import careful

SHORT = 2  # seconds that a stage may take, for who comes to that limit


def aborts() -> None:
    os.abort()


def never_returns() -> None:
    while True:
        pass


def sleeps_for_ever() -> None:
    time.sleep(10_000)


def eats_memory() -> None:
    hoard = []
    while True:
        hoard.append(bytearray(1 << 26))


def crashes_in_c() -> None:
    ctypes.string_at(0)


WAYS = {way.__name__: way for way in (aborts, never_returns, sleeps_for_ever, eats_memory, crashes_in_c)}


class Toy:
    """An operator of two stages, for images that are named for what they do: `STAGE:WAY`, anything else is harmless."""

    def __init__(self, watch, blame, flag=""):
        self.watch, self.blame, self.flag = watch, blame, flag
        careful.CHILD_CPU_SECONDS, careful.CHILD_MEMORY = 1, 1 << 28

    def __call__(self, row):
        told = {}
        for name in row["ids"]:
            for stage in ("decoder", "text"):
                if how := self.blame.get((name, stage)):
                    told[name] = f"{how}_{stage}"
                    break
                with self.watch(stage, [name]):
                    wanted, _, way = name.partition(":")
                    if wanted == stage:
                        self.do(way)
            self.wait_for_a_store(name)
            told.setdefault(name, "scored")
        return told

    def wait_for_a_store(self, name):
        if name == "a slow store":
            time.sleep(1.5 * SHORT)

    def do(self, way):
        if way == "is_killed_once":
            if not Path(self.flag).exists():
                Path(self.flag).touch()
                os.kill(os.getpid(), signal.SIGKILL)
        elif way == "raises":
            raise TypeError("a fault of ours")
        elif way == "raises_what_cannot_be_sent":
            raise ValueError(lambda: 0)
        else:
            WAYS[way]()


def cannot_load(watch, blame):
    raise SystemExit(3)
