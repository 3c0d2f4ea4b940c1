"""A training run as one page of HTML that needs nothing but itself: OUT/run.html, its curves out of OUT/log.jsonl."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from training.recipe import TrainRecipe

TEMPLATES = Path(__file__).parent / "templates"
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 420, 220, 52, 12, 12, 28  # pixels; the last four: margins
TICKS = 4
POINTS = 200  # of a line, at most: more cannot be told apart
OTHERS = "_others"  # ends the name of a yardstick, which is drawn into the chart of its figure
GRID_SIDE = 1600  # pixels of the picture in the page, at most

Curve = Mapping[int, float | None]  # a number by step; None: it was asked for, and there was none


@dataclass(frozen=True)
class Line:
    """`parts`: points "x,y x,y" of each stretch without a gap; `dots`: (x, y, what it says) of each number."""

    kind: str
    parts: tuple[str, ...]
    dots: tuple[tuple[float, float, str], ...]


@dataclass(frozen=True)
class Chart:
    """What the template draws of a figure, and its yardstick. `x_ticks`, `y_ticks`: (pixel, number)."""

    name: str
    says: str
    summary: str
    lines: tuple[Line, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def write_page(folder: Path, recipe: TrainRecipe) -> None:
    """Write FOLDER/run.html anew, of what FOLDER/log.jsonl says up to now."""
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    whole = folder / ".run.html.part"
    whole.write_bytes(render(rows, recipe, sorted((folder / "pictures").glob("held-out-*.png"))))
    whole.replace(folder / "run.html")


def render(rows: Sequence[Mapping[str, Any]], recipe: TrainRecipe, grids: Sequence[Path] = ()) -> bytes:
    """The page of a log's rows. `grids`: drawings from the held-out photos; the last one is shown."""
    evaluations = [row for row in rows if row["kind"] == "evaluation" and "failed" not in row]
    failed = [row for row in rows if row["kind"] == "evaluation" and "failed" in row]
    says: dict[str, str] = {name: told for row in evaluations for name, told in row["says"].items()}
    curves = {name: by_step(evaluations, name) for name in says}
    charts, missing = [], {}
    for name in says:
        if name.endswith(OTHERS):
            continue
        if any(value is not None for value in curves[name].values()):
            charts.append(chart_of(name, says[name], curves[name], curves.get(name + OTHERS, {})))
        else:
            missing[name.replace("_", " ")] = says[name]
    others = [
        ("fixed-noise loss", "of the validation samples, which are trained on; unweighted", by_step(rows, "loss", "validation")),
        ("training loss", "as it is minimised; means of neighbouring lines of the log", thinned(by_step(rows, "loss", "train"))),
    ]  # fmt: skip
    losses = [chart_of(name, told, curve) for name, told, curve in others if any(curve.values())]
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    return (
        environment.get_template("run.html")
        .render(
            recipe=recipe, step=max(row["step"] for row in rows), charts=charts, losses=losses, missing=missing,
            failed=failed[-1] if failed else None, grid=_embedded(grids[-1]) if grids else None,
            grid_step=int(grids[-1].stem.rpartition("-")[2]) if grids else 0,
            style=Markup((TEMPLATES / "run.css").read_text("utf-8")),
        )
        .encode(errors="backslashreplace")
    )  # fmt: skip


def by_step(rows: Sequence[Mapping[str, Any]], name: str, kind: str = "evaluation") -> dict[int, float | None]:
    """A figure by step. Of steps that were done twice, since the run was killed in between, the later row counts."""
    found = {row["step"]: row[name] for row in rows if row["kind"] == kind and name in row}
    return dict(sorted(found.items()))


def thinned(curve: Curve) -> dict[int, float | None]:
    """At most POINTS means of neighbours, each at its last step."""
    known = [(step, value) for step, value in curve.items() if value is not None]
    size = max(1, math.ceil(len(known) / POINTS))
    parts = [known[start : start + size] for start in range(0, len(known), size)]
    return {part[-1][0]: sum(value for _, value in part) / len(part) for part in parts}


def chart_of(name: str, says: str, curve: Curve, yardstick: Curve | None = None) -> Chart:
    """A chart of a figure that has at least one number. What has none is left out of the line, which has a gap there."""
    curves = [("figure", curve), ("yardstick", yardstick or {})]
    steps = sorted({step for _, each in curves for step in each})
    numbers = [value for _, each in curves for value in each.values() if value is not None]
    margin = max((max(numbers) - min(numbers)) / 10, 0.005)
    low, high, last = min(numbers) - margin, max(numbers) + margin, max(steps[-1], steps[0] + 1)

    def x(step: float) -> float:
        return round(LEFT + (step - steps[0]) / (last - steps[0]) * (WIDTH - LEFT - RIGHT), 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)

    known = {step: value for step, value in curve.items() if value is not None}
    newest, best = max(known), max(known, key=lambda step: known[step])
    return Chart(
        name.replace("_", " "), says,
        f"{known[newest]:.3f} at step {newest:,}; highest {known[best]:.3f} at step {best:,}",
        tuple(_line(kind, each, x, y) for kind, each in curves if each),
        tuple((x(step), f"{step:,.0f}") for step in np.linspace(steps[0], last, TICKS)),
        tuple((y(value), f"{value:.{2 if high - low > 0.1 else 3}f}") for value in np.linspace(low, high, TICKS)),
    )  # fmt: skip


def _line(kind: str, curve: Curve, x: Any, y: Any) -> Line:
    parts: list[list[str]] = [[]]
    dots = []
    for step, value in curve.items():
        if value is None:
            parts.append([])
            continue
        parts[-1].append(f"{x(step)},{y(value)}")
        dots.append((x(step), y(value), f"step {step:,}: {value:.3f}"))
    return Line(kind, tuple(" ".join(part) for part in parts if part), tuple(dots))


def _embedded(file: Path) -> str:
    """A data: URI."""
    with Image.open(file) as picture:
        shown = picture.convert("RGB")
    shown.thumbnail((GRID_SIDE, GRID_SIDE))
    out = io.BytesIO()
    shown.save(out, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
