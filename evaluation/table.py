"""The table: a row a method, a column a figure, both protocols side by side, each number with its interval and its N."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from evaluation.metrics.base import AnyFigure, Figure, NotMeasured, SetFigure
from evaluation.metrics.distances import half_samples
from evaluation.score import OF_REFERENCE, Scored
from evaluation.sets import Method
from evaluation.statistics import Compared, Estimate, compare, matrix_of, within


@dataclass(frozen=True)
class Cell:
    """One method's figure. `why`: why there is none; `first`: the probability that it is the best of the column; `people`:
    how many stand behind it, None where the references do not say who they show."""

    estimate: Estimate | None
    left_out: int = 0
    pictures: int = 0
    first: float | None = None
    close: bool = False  # its difference from the best is within noise, or nobody can tell
    why: str = ""
    quotable: bool = True
    people: int | None = None
    absent: bool = False  # the whole method is: the head says why


@dataclass(frozen=True)
class Column:
    figure: AnyFigure
    cells: dict[str, Cell]
    metric: str = ""

    @property
    def scores(self) -> str:
        """The name of its numbers among all metrics' scores; "" where it is no mean of pictures."""
        return f"{self.metric}: {self.figure.column}" if isinstance(self.figure, Figure) else ""

    @property
    def title(self) -> str:
        return f"{self.figure.title} ({self.figure.protocol})"


def column_of(figure: AnyFigure, scored: Scored, methods: Sequence[Method], seed: int = 0) -> Column:
    """One figure of all methods."""
    if isinstance(figure, NotMeasured):
        return not_measured(figure, methods)
    if isinstance(figure, SetFigure):
        return Column(figure, {item.name: _set_cell(figure, scored, item, seed) for item in methods})
    return _mean_column(figure, scored, methods, seed)


def _set_cell(figure: SetFigure, scored: Scored, method: Method, seed: int) -> Cell:
    """The distance of a method's pictures to their references, with the scatter of halves."""
    pairs = [item for item in method.drawn if item.file is not None and str(item.file) in scored.features]
    pairs = [item for item in pairs if str(item.reference.file) in scored.features]
    listed = figure.suffixes or ("",)
    pairs = [item for item in pairs if item.file.name.endswith(listed)]
    shown = dict.fromkeys(item.reference for item in pairs)
    references = {item.name: str(item.file) for item in shown if item.file.name.endswith(listed)}
    owners = np.array(list(references)), np.array([item.reference.name for item in pairs])
    left_out = len(method.drawn) - len(pairs)
    sets = [
        np.array([scored.features[file][figure.feature] for file in files], np.float64)
        for files in (list(references.values()), [str(item.file) for item in pairs])
    ]
    try:
        value = figure.distance(*sets)
        halves = half_samples(*sets, owners, figure.scatter or figure.distance, seed=seed)
    except ValueError as error:
        return Cell(None, left_out, len(pairs), why=str(error))
    low, high = value + np.quantile(halves, [0.025, 0.975]) - halves.mean()
    quotable = len(pairs) >= figure.headline_at
    told = within(Estimate(value, float(low), float(high), len(references)), figure.bounds)
    return Cell(told, left_out, len(pairs), quotable=quotable, people=_people([method], set(references)))


def _mean_column(figure: Figure, scored: Scored, methods: Sequence[Method], seed: int) -> Column:
    """The means of all methods, from the same draws of references."""
    references = list(dict.fromkeys(item.reference.name for method in methods for item in method.drawn))
    prompts = sorted({item.prompt for method in methods for item in method.drawn})
    rows = scored.rows.copy()
    if figure.column not in rows:
        rows[figure.column] = np.nan
    # a reference that cannot be read is no fault of a method's: it is left out of all of them
    rows = rows[~rows["error"].str.startswith(OF_REFERENCE)]
    numbers = rows[figure.column].astype(float)
    rows["number"] = numbers if figure.of_failures is None else numbers.fillna(figure.of_failures)
    if figure.suffixes:
        rows["number"] = rows["number"].where(rows["file"].str.endswith(figure.suffixes))
    by_method = {method.name: rows[rows["method"] == method.name] for method in methods}
    stopped = {name: why for name, own in by_method.items() if (why := _stopped(figure, own))}
    by_method |= {name: by_method[name].assign(number=np.nan) for name in stopped}
    matrices = {name: matrix_of(own, "number", references, prompts) for name, own in by_method.items()}
    compared = compare(matrices, seed, bounds=figure.bounds)
    return Column(figure, cells_of(figure, compared, by_method, methods, stopped), scored.metric.name)


def _stopped(figure: Figure, rows: pd.DataFrame) -> str:
    """Where and why the published script would have ended with an error; "" where it would not."""
    for row in rows.to_dict(orient="records") if figure.stops else ():
        if (row["file"].endswith(figure.suffixes) or not figure.suffixes) and (why := figure.stops(row)):
            return f"the published script ends with an error at {row['file'] or row['reference']}: {why}"
    return ""


def cells_of(
    figure: Figure, compared: Compared, by_method: Mapping[str, pd.DataFrame], methods: Sequence[Method],
    stopped: Mapping[str, str],
) -> dict[str, Cell]:  # fmt: skip
    """The cells of a mean. `by_method`: its rows with a `number`; `stopped`: why a method has none."""
    ranks, best = {}, None
    if figure.higher_is_better is not None and sum(mean.known for mean in compared.means) > 1:
        ranks = compared.first(figure.higher_is_better)
        sign = 1 if figure.higher_is_better else -1
        known = [
            (sign * mean.value, name) for name, mean in zip(compared.names, compared.means, strict=True) if mean.known
        ]
        best = max(known)[1]
    cells = {}
    for name, estimate in zip(compared.names, compared.means, strict=True):
        rows = by_method[name]
        left_out = int(rows["number"].isna().sum())
        if not estimate.known:
            told = None
            if figure.of_none is not None and name not in stopped:
                told = Estimate(figure.of_none, np.nan, np.nan, 0)
            why = "" if told else stopped.get(name, "no picture has a number")
            cells[name] = Cell(told, left_out, len(rows), why=why)
            continue
        close = bool(best) and best != name and compared.difference(name, best).may_be(0)
        first = ranks.get(name) if estimate.n > 1 else None  # of one reference all draws are the same
        there = _people(methods, set(rows.loc[rows["number"].notna(), "reference"]))
        cells[name] = Cell(estimate, left_out, len(rows) - left_out, first, close, people=there)
    return cells


def _people(methods: Sequence[Method], references: set[str]) -> int | None:
    """How many people these references show; None where it is not said of all of them."""
    shown = {item.reference.name: item.reference.person for method in methods for item in method.drawn}
    people = {shown[name] for name in references}
    return None if "" in people else len(people)


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


def markdown(columns: Sequence[Column], methods: Sequence[Method], head: Sequence[str]) -> str:
    """The table with its head; figures stand below each other, since a line of them would not fit."""
    names = [method.name for method in methods]
    titles = [name.replace("|", r"\|") for name in names]
    lines = [*head, "", "| figure | protocol | " + " | ".join(titles) + " |", "|---" * (2 + len(names)) + "|"]
    for column in columns:
        cells = [number(column.cells[name]) for name in names]
        lines.append(f"| {column.figure.title} | {column.figure.protocol} | " + " | ".join(cells) + " |")
    below = [f"- {column.title}: {note}" for column in columns for note in notes(column)]
    return "\n".join([*lines, "", CLOSE, "", *below, ""])


def notes(column: Column) -> list[str]:
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
        ["figure", "protocol", "method", "value", "low", "high", "references", "people", "left_out", "first", "why"]
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
                    method.name,
                    *values,
                    "" if cell.people is None else cell.people,
                    cell.left_out,
                    first,
                    cell.why,
                ]  # fmt: skip
            )
    return out.getvalue()


def with_absent(column: Column, methods: Sequence[Method]) -> Column:
    """The column of those that were drawn, with a cell for every method: one that could not be drawn has its reason there."""
    absent = {
        method.name: Cell(None, why=f"not drawn: {method.absent}", absent=True) for method in methods if method.absent
    }
    return Column(column.figure, column.cells | absent, column.metric)


def not_measured(figure: NotMeasured, methods: Sequence[Method]) -> Column:
    return Column(figure, {method.name: Cell(None, why=figure.why) for method in methods})
