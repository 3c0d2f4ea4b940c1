"""The table as text: Markdown to read, CSV to compute with, and how a cell is written."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence

import pandas as pd

from evaluation.metrics.base import NotMeasured
from evaluation.sets import Method
from evaluation.table import Cell, Column

BY_CATEGORY = "The same scores, of the prompts of one kind alone: sound means, without the distances between sets."
NAMED = 5  # pictures of one reason; all of them are in scores/
CLOSE = "`~`: its difference from the best of the row is within noise, as every difference is where N is 1."


def number(cell: Cell) -> str:
    """As it stands in a table: `0.412 [0.380, 0.444] N=50`, and what a reader must know of it."""
    if cell.estimate is None:
        return "n/a"
    text = f"{cell.estimate.value:.3f}"
    if cell.estimate.has_interval:
        text += f" [{cell.estimate.low:.3f}, {cell.estimate.high:.3f}]"
    text += f" N={cell.estimate.n}{people(cell)}"
    if not cell.quotable:
        text += ", too few to quote"
    if cell.left_out:
        text += f", {cell.left_out} left out"
    if cell.first is not None:
        text += f", P(best)={cell.first:.2f}"
    return text + (" ~" if cell.close else "")


def people(cell: Cell) -> str:
    """Who stands behind a number, as far as it is known."""
    return "" if cell.people is None else f" of {cell.people} {'person' if cell.people == 1 else 'people'}"


def markdown(
    columns: Sequence[Column], methods: Sequence[Method], head: Sequence[str], errors: pd.DataFrame | None = None,
    parts: Sequence[Column] = (),
) -> str:  # fmt: skip
    """The table with its head; figures stand below each other, since a line of them would not fit. `errors`: a row for each
    picture that could not be scored; `parts`: the columns of each category of prompts."""
    lines = [*head, "", *_rows("protocol", columns, methods, lambda column: column.figure.protocol)]
    below = [f"- {note}" for note in notes(columns)]
    failed = [] if errors is None or errors.empty else ["## What could not be scored", "", *_failed(errors), ""]
    own = _rows("category", sorted_by_figure(parts), methods, lambda column: column.category) if parts else []
    by_category = ["## By category of prompt", "", BY_CATEGORY, "", *own, ""] if parts else []
    return "\n".join([*lines, "", CLOSE, "", *below, "", *by_category, *failed])


def _rows(
    second: str, columns: Sequence[Column], methods: Sequence[Method], told: Callable[[Column], str]
) -> list[str]:
    titles = [_in_a_cell(method.name) for method in methods]
    lines = [f"| figure | {second} | " + " | ".join(titles) + " |", "|---" * (2 + len(titles)) + "|"]
    for column in columns:
        cells = [number(column.cells[method.name]) for method in methods]
        lines.append(f"| {column.figure.title} | {_in_a_cell(told(column))} | " + " | ".join(cells) + " |")
    return lines


def _in_a_cell(text: str) -> str:
    return text.replace("|", r"\|")


def sorted_by_figure(parts: Sequence[Column]) -> list[Column]:
    """All categories of a figure below each other."""
    order = list(dict.fromkeys((part.metric, part.figure) for part in parts))
    return sorted(parts, key=lambda part: order.index((part.metric, part.figure)))


def _failed(errors: pd.DataFrame) -> list[str]:
    """A line for each reason and method, with some of the pictures."""
    lines = []
    for (method, why), rows in errors.groupby(["method", "error"], sort=False):
        of = [" ".join(filter(None, key)) for key in rows[["reference", "prompt", "seed"]].itertuples(index=False)]
        more = f" and {len(of) - NAMED:,} more, in scores/" if len(of) > NAMED else ""
        lines.append(f"- {method}: {why}: {', '.join(of[:NAMED])}{more}")
    return lines


def notes(columns: Sequence[Column]) -> list[str]:
    """Of each column what it is and what is missing in it; once, where several have the same to say."""
    titles: dict[str, list[str]] = {}
    for column in columns:
        for note in _notes(column):
            titles.setdefault(note, []).append(column.title)
    return [f"{', '.join(of)}: {note}" for note, of in titles.items()]


def _notes(column: Column) -> list[str]:
    """What the column is, and why numbers are missing in it, once for all methods of which it is so."""
    reasons: dict[str, list[str]] = {}
    for name, cell in column.cells.items():
        if cell.why and not cell.absent:
            reasons.setdefault(cell.why, []).append(name)
    says = [] if isinstance(column.figure, NotMeasured) or not column.figure.says else [column.figure.says]
    everywhere = sum(not cell.absent for cell in column.cells.values())
    return says + [
        f"n/a: {why}" if len(names) == everywhere else f"n/a for {', '.join(names)}: {why}"
        for why, names in reasons.items()
    ]


def comma_separated(columns: Sequence[Column], methods: Sequence[Method]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        [
            "figure",
            "protocol",
            "category",
            "method",
            "value",
            "low",
            "high",
            "references",
            "people",
            "left_out",
            "first",
            "why",
        ]
    )
    for column in columns:
        for method in methods:
            cell = column.cells[method.name]
            told = cell.estimate
            values = [told.value, told.low, told.high, told.n] if told else ["", "", "", ""]
            first = "" if cell.first is None else cell.first
            writer.writerow(
                [
                    column.figure.title,
                    column.figure.protocol,
                    column.category,
                    method.name,
                    *values,
                    "" if cell.people is None else cell.people,
                    cell.left_out,
                    first,
                    cell.why,
                ]  # fmt: skip
            )
    return out.getvalue()
