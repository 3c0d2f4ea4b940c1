"""Copying against prompt-following, a point a method with both intervals, as SVG inside the page.

A picture that copies its reference scores high on likeness and low on the prompt: who reads one figure alone is misled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.metrics.base import Figure
from evaluation.table import Cell, Column

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 380, 64, 24, 16, 52  # pixels; the last four: margins
TICKS = 5


@dataclass(frozen=True)
class Point:
    """A method's point, and the ends of its intervals, in pixels."""

    name: str
    colour: int
    x: float
    y: float
    x_ends: tuple[float, float]
    y_ends: tuple[float, float]
    said: str


@dataclass(frozen=True)
class Plot:
    """What the template draws. `why`: why there is nothing to draw; `x_ticks`, `y_ticks`: (pixel, number)."""

    x_title: str = ""
    y_title: str = ""
    points: tuple[Point, ...] = ()
    x_ticks: tuple[tuple[float, str], ...] = ()
    y_ticks: tuple[tuple[float, str], ...] = ()
    why: str = ""
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def plot_of(columns: Sequence[Column]) -> Plot:
    """CLIP-T across; up copy-paste, or FaceSim where no reference has another photo of its person."""
    across, up = _measured(columns, "CLIP-T"), _measured(columns, "copy-paste") or _measured(columns, "FaceSim")
    if across is None or up is None:
        what = " and ".join(name for name, column in (("CLIP-T", across), ("FaceSim", up)) if column is None)
        return Plot(why=f"There is no {what}: the table says why.")
    both = {
        name: (cell, up.cells[name])
        for name, cell in across.cells.items()
        if cell.estimate is not None and up.cells[name].estimate is not None
    }
    if not both:
        return Plot(why="No method has both numbers: the table says why.")
    x_low, x_high = _range([cell for cell, _ in both.values()])
    y_low, y_high = _range([cell for _, cell in both.values()])

    def x(value: float) -> float:
        return round(LEFT + (value - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT), 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (value - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM), 1)

    points = []
    for place, (name, (one, other)) in enumerate(both.items()):
        ends = [tuple(place_of(value) for value in _ends(cell)) for cell, place_of in ((one, x), (other, y))]
        said = f"{name}: {across.figure.title} {one.estimate.value:.3f}, {up.figure.title} {other.estimate.value:.3f}"
        points.append(Point(name, place % 6, x(one.estimate.value), y(other.estimate.value), *ends, said))
    return Plot(
        across.figure.title, up.figure.title, tuple(points),
        tuple((x(value), f"{value:.2f}") for value in np.linspace(x_low, x_high, TICKS)),
        tuple((y(value), f"{value:.2f}") for value in np.linspace(y_low, y_high, TICKS)),
    )  # fmt: skip


def _measured(columns: Sequence[Column], title: str) -> Column | None:
    """The first sound mean that is called so and has a number."""
    for column in columns:
        named = isinstance(column.figure, Figure) and column.figure.title.startswith(title)
        if named and column.figure.protocol == "sound" and any(cell.estimate for cell in column.cells.values()):
            return column
    return None


def _ends(cell: Cell) -> tuple[float, float]:
    told = cell.estimate
    return (told.low, told.high) if told.has_interval else (told.value, told.value)


def _range(cells: Sequence[Cell]) -> tuple[float, float]:
    """From the lowest to the highest end of an interval, and a tenth more on both sides."""
    ends = [end for cell in cells for end in _ends(cell)]
    margin = max((max(ends) - min(ends)) / 10, 0.01)
    return min(ends) - margin, max(ends) + margin
