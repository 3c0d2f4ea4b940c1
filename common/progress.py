"""How far a step is, with an estimate of the time left: a bar in a terminal, a line every 10 s in a log.

Who wants to know of all bars, to show them in another way, is a `Watcher`.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

console = Console(stderr=True, highlight=False, soft_wrap=True)
LINE_EVERY = 10.0  # seconds, where there is no terminal


def say(step: str, message: str, style: str = "") -> None:
    """Print one line of a step, to the terminal or the log; the message letter for letter, `[` too."""
    # in one print: what is live in a terminal is drawn again after each
    console.print(Text.assemble((f"{step:>8}", "bold"), "  ", (message, style)))


def duration_text(seconds: float) -> str:
    """A duration in the unit that suits it: "45 s", "12 min", "1.5 h"."""
    seconds = max(0, round(seconds))
    if seconds < 90:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Watcher(Protocol):
    """Is told of every bar of this process."""

    shows: bool  # whether it shows them: then they do not show themselves

    def begun(self, bar: ProgressBar) -> None: ...

    def advanced(self, bar: ProgressBar) -> None: ...


_watchers: list[Watcher] = []


@contextlib.contextmanager
def watched_by(watcher: Watcher) -> Iterator[None]:
    """Inside a `with` the watcher is told of all bars."""
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)


class ProgressBar:
    """Shows how many of `total` units are done; the rate is measured from the first result on, start-up excluded."""

    def __init__(self, step: str, total: int, unit: str = "images"):
        self.step, self.total, self.unit = step, total, unit
        self.done = 0
        self.note = ""
        self._started = time.monotonic()
        self._first: tuple[float, int] | None = None
        self._last_line = self._started
        self._bar: Progress | None = None
        self._shown = True

    def __enter__(self) -> ProgressBar:
        for watcher in _watchers:
            watcher.begun(self)
        self._shown = not any(watcher.shows for watcher in _watchers)
        if self._shown and sys.stderr.isatty() and self.total:
            self._bar = Progress(
                TextColumn(f"[bold]{self.step:>8}[/]"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}", markup=False),
                TimeElapsedColumn(),
                console=console,
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task(self.step, total=self.total, note="starting")
        return self

    def advance(self, count: int, note: str = "") -> None:
        """`count` more units are done; `note` stands behind the estimate."""
        now = time.monotonic()
        self.done += count
        self.note = note
        if self._first is None:
            self._first = (now, self.done)
        for watcher in _watchers:
            watcher.advanced(self)
        if not self._shown:
            return
        text = f"{self._estimate(now)} {note}".strip()
        if self._bar:
            self._bar.update(self._task, completed=self.done, note=text)
        elif now - self._last_line >= LINE_EVERY:
            self._last_line = now
            say(self.step, f"{self.done:,} of {self.total:,} {self.unit}, {text}")

    def rate(self, now: float) -> float | None:
        """Units a second; None until there are two measurements to divide."""
        if self._first is None or self.done <= self._first[1] or now <= self._first[0]:
            return None
        return (self.done - self._first[1]) / (now - self._first[0])

    def _estimate(self, now: float) -> str:
        """Rate and time left."""
        rate = self.rate(now)
        if rate is None:
            return "measuring"
        return f"{rate:.1f} {self.unit}/s, {duration_text((self.total - self.done) / rate)} left"

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._started

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
