"""Follows a run from step to step: what is done, how fast it goes, when all of it will be done.

    RUN/progress.json       the same for others, every few seconds (docs/run-directory.md)

It reads what the steps' bars say and a few counts of the run, and decides nothing: where it cannot be written, that is
said and tried again, and the run goes on.
"""

from __future__ import annotations

import datetime
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, replace
from types import TracebackType
from typing import Any

from rich.live import Live

import common.progress as bars
from common.failures.mendable import first_line
from common.progress import ProgressBar, console, say, watched_by
from curation.progress.outlook import Outlook
from curation.progress.shown import line_of, table_of
from curation.progress.state import DONE, MEASURED, RUNNING, WAITING, RunProgress, StepProgress
from curation.run_directory.driver import Overtaken
from curation.run_directory.run import Run

PROGRESS = "progress.json"
EVERY = {True: 5.0, False: 15.0}  # seconds between two writings, on a disk and to a bucket, where each is a request
LAST_WRITE = 10.0  # seconds that the end of a run waits for the store to take the last word


class Follower(AbstractContextManager["Follower"]):
    """A `Watcher` of all bars, inside a `with`, for the steps that a command does, in their order."""

    shows = True

    def __init__(self, run: Run, name: str, steps: Sequence[str]):
        self.run, self.name, self.steps = run, name, tuple(steps)
        self._outlook = Outlook(run, name)
        self._now = 0
        self._bar: ProgressBar | None = None
        self._first: ProgressBar | None = None  # of the step: a fetch has one a round
        self._finished: dict[str, StepProgress] = {}
        self._began = self._last_line = time.monotonic()
        self._since = datetime.datetime.now(datetime.UTC)
        self._lock, self._ended = threading.RLock(), threading.Event()
        self._told: set[str] = set()
        self._state = RUNNING
        self._stack = ExitStack()

    # -- what is told -----------------------------------------------------------------------------------------------

    def begin(self, step: str) -> None:
        """A step begins; the one before it is done."""
        self._look()
        with self._lock:
            if step in self.steps:
                self._enter(self.steps.index(step))

    def begun(self, bar: ProgressBar) -> None:
        with self._lock:
            if bar.step not in self.steps:
                return
            if self.steps[self._now] != bar.step:
                self._enter(self.steps.index(bar.step))
            if self._first is None or self._first.unit != bar.unit:
                self._first = bar
            self._bar = bar

    def advanced(self, bar: ProgressBar) -> None:
        now = time.monotonic()
        if bar is not self._bar or self._live or now - self._last_line < bars.LINE_EVERY:
            return
        self._last_line = now
        say(bar.step, line_of(self.progress(), bar.note))

    def _enter(self, place: int) -> None:
        if place != self._now:
            self._leave()
            self._began = time.monotonic()
        self._now, self._bar, self._first = place, None, None

    def _leave(self) -> None:
        last = self._running(time.monotonic())
        # of a step that had nothing to do, no more is known than that
        known = last if self._bar else StepProgress(last.step, DONE, seconds=last.seconds)
        self._finished[last.step] = replace(known, state=DONE, seconds_left=0.0, at_most=False)

    # -- what is known ----------------------------------------------------------------------------------------------

    def progress(self) -> RunProgress:
        """How far the run is at this moment."""
        with self._lock:
            now = time.monotonic()
            steps = tuple(self._step(place, name, now) for place, name in enumerate(self.steps))
        return RunProgress(steps, self._now)

    def _step(self, place: int, name: str, now: float) -> StepProgress:
        if place == self._now and self._state != DONE:
            return self._running(now)
        if place <= self._now:
            return self._finished.get(name, StepProgress(name, DONE, seconds_left=0.0))
        return self._expected(name)

    def _running(self, now: float) -> StepProgress:
        name, bar = self.steps[self._now], self._bar
        seconds = now - self._began
        if bar is None:
            return replace(self._expected(name), state=RUNNING, seconds=seconds)
        rate, left = bar.rate(now), bar.total - bar.done
        # of a later round: all but those that are tried again are done
        total = max(bar.total, self._first.total if self._first else 0)
        step = StepProgress(name, RUNNING, total - left, total, bar.unit, rate, seconds)
        if rate or not left:
            return replace(step, seconds_left=left / rate if rate else 0.0, basis=MEASURED)
        expected = self._expected(name)
        if expected.per_second and name != "select":  # whose pieces are no images
            return replace(step, seconds_left=left / expected.per_second, basis=expected.basis)
        return step

    def _expected(self, name: str) -> StepProgress:
        cut_is_made = "cut" not in self.steps or self._now > self.steps.index("cut")
        told = self._outlook.of(name, cut_is_made)
        rate = 1 / told.seconds if told.seconds else None
        left = told.images / rate if rate and told.images is not None else None
        return StepProgress(
            name, WAITING, total=told.images, per_second=rate, seconds_left=left, at_most=told.at_most, basis=told.basis
        )

    def as_json(self) -> dict[str, Any]:
        """What progress.json holds."""
        told, now = self.progress(), datetime.datetime.now(datetime.UTC)
        ends = None
        if told.seconds_left is not None:
            ends = (now + datetime.timedelta(seconds=told.seconds_left)).isoformat(timespec="seconds")
        return {
            "cut": self.name,
            "state": self._state,
            "step": told.current.step,
            "since": self._since.isoformat(timespec="seconds"),
            "updated": now.isoformat(timespec="seconds"),
            "seconds_left": told.seconds_left,
            "at_most": told.at_most,
            "ends": ends,
            "unknown": told.unknown,
            "steps": [asdict(step) for step in told.steps],
        }

    # -- as long as the run goes ------------------------------------------------------------------------------------

    def __enter__(self) -> Follower:
        self._look()
        self._stack.enter_context(watched_by(self))
        self._live = bool(sys.stderr.isatty())
        if self._live:
            shown = Live(
                get_renderable=lambda: table_of(self.progress()), console=console, refresh_per_second=2, transient=True
            )
            self._stack.enter_context(shown)
        self._writer = threading.Thread(target=self._write_on, name="progress", daemon=True)
        self._writer.start()
        return self

    def _write_on(self) -> None:
        while True:
            ended = self._ended.wait(0)
            if self._state != "overtaken":  # then the file is another driver's
                self._write()
            if ended:
                return
            self._ended.wait(EVERY[self.run.is_local])

    # whatever goes wrong here: nobody's run is to end for a notice of how far it is

    def _look(self) -> None:
        try:
            self._outlook.read()
        except Exception as error:  # noqa: BLE001
            self._tell(f"what remains cannot be reckoned ({type(error).__name__}: {first_line(error)})")

    def _write(self) -> None:
        try:
            self.run.write_json(PROGRESS, self.as_json())
        except Exception as error:  # noqa: BLE001
            self._tell(f"{PROGRESS} cannot be written ({first_line(error)}); trying on")

    def _tell(self, what: str) -> None:
        if what not in self._told:
            self._told.add(what)
            say("progress", what)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            if error is None:
                self._leave()
                self._now = len(self.steps) - 1
            self._state = _state_after(error)
        self._stack.close()
        self._ended.set()
        self._writer.join(LAST_WRITE)


def _state_after(error: BaseException | None) -> str:
    if error is None:
        return DONE
    if isinstance(error, Overtaken):
        return "overtaken"
    return "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
