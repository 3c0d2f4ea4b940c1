"""Images that do to a worker what no `except` catches. Modules that workers and children of them can import."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path

from curation.annotation.annotate import ENCODER, annotate_unit
from curation.run_directory.units import Unit
from curation.scoring import careful
from curation.scoring.operator import ScoringOperator


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
            time.sleep(7)

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


class Sabotaged(ScoringOperator):
    """The real one, in whose decoder and text filter one image each ends the process: the first two of each round's first unit."""

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        usual = self.watch

        @contextmanager
        def watch(stage, ids):
            with usual(stage, ids):
                if self.victims.get(stage) in ids:
                    os.abort()
                yield

        self.watch, self.victims = watch, {}

    def _score_unit(self, row):
        ids = Unit.of_row(row).ids
        self.victims = {careful.DECODER: ids[0], "text": ids[1]} if row["name"].endswith("-00000") else {}
        return super()._score_unit(row)


def annotate_until_the_encoder_dies(run, recipe, faces, fingerprint, kept, watch=None, blame=None):
    """The real one, whose encoder ends the process at the first image that each round's first unit keeps."""
    usual = watch or (lambda stage, ids: nullcontext())

    @contextmanager
    def watch(stage, ids):
        with usual(stage, ids):
            if stage == ENCODER and kept.unit.name.endswith("-00000") and ids == kept.ids[:1]:
                os.abort()
            yield

    return annotate_unit(run, recipe, faces, fingerprint, kept, watch, blame)
