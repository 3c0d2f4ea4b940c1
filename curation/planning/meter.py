"""Measures the steps of a pilot: seconds and core-seconds, those of the start apart from those that an image takes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from common.progress import ProgressBar, watched_by


@dataclass(frozen=True)
class StepCost:
    """What a step of a pilot took. `pieces`: float64 (pieces, 3), images, seconds and core-seconds between two results of
    it; `seconds`, `core_seconds`: of the whole step, its start included; `images`: that it did."""

    images: int
    seconds: float
    core_seconds: float
    pieces: np.ndarray

    @property
    def is_measured(self) -> bool:
        """Whether the cost of an image can be told from that of the start."""
        return len(self.pieces) > 1 and self.pieces[:, 0].sum() > 0

    def start(self, column: int, an_image: float) -> float:
        """Seconds (1) or core-seconds (2) that no number of images changes."""
        whole = self.seconds if column == 1 else self.core_seconds
        return max(0.0, whole - an_image * self.images)


@dataclass
class _Marks:
    seconds: float = 0.0
    core_seconds: float = 0.0
    images: int = 0
    pieces: list[tuple[float, float, float]] = field(default_factory=list)


class Meter:
    """A `Watcher` of the bars of a pilot, which show themselves."""

    shows = False

    def __init__(self, core_seconds: Callable[[], float]):
        self._core_seconds = core_seconds
        self._marks: dict[str, _Marks] = {}
        self._last: tuple[float, float] | None = None
        self._done = 0

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Around a step."""
        marks = self._marks.setdefault(name, _Marks())
        before = self._now()
        with watched_by(self):
            yield
        after = self._now()
        marks.seconds += after[0] - before[0]
        marks.core_seconds += after[1] - before[1]

    def begun(self, bar: ProgressBar) -> None:
        self._last, self._done = None, 0

    def advanced(self, bar: ProgressBar) -> None:
        marks, now, images = self._marks.setdefault(bar.step, _Marks()), self._now(), bar.done - self._done
        marks.images += images
        if self._last is not None:  # up to the first result models are loaded
            marks.pieces.append((images, now[0] - self._last[0], now[1] - self._last[1]))
        self._last, self._done = now, bar.done

    def cost(self, name: str) -> StepCost:
        """What a step took."""
        marks = self._marks.get(name, _Marks())
        pieces = np.array(marks.pieces, dtype=np.float64).reshape(-1, 3)
        return StepCost(marks.images, marks.seconds, marks.core_seconds, pieces)

    def _now(self) -> tuple[float, float]:
        return time.monotonic(), self._core_seconds()
