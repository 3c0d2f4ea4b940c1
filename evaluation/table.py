"""The table: a row a method, a column a figure, both protocols side by side, each number with its interval and its N."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from evaluation.metrics.base import AnyFigure, Figure, NotMeasured, SetFigure
from evaluation.metrics.distances import half_samples
from evaluation.score import OF_REFERENCE, Scored
from evaluation.sets import Method, units_of
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
    """`category`: the pictures of these prompts alone; "": all."""

    figure: AnyFigure
    cells: dict[str, Cell]
    metric: str = ""
    category: str = ""

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


def by_category(
    figures: Sequence[AnyFigure],
    scored: Scored,
    methods: Sequence[Method],
    categories: Mapping[str, str],
    seed: int = 0,
) -> list[Column]:
    """The sound means of each category of prompts that any method has, from the same scores; none where all pictures are of
    one category.

    A distance between sets is no mean of pictures, and of a part of them it is another figure.
    """
    drawn = {item.prompt for method in methods for item in method.drawn}
    there = list(dict.fromkeys(category for prompt, category in categories.items() if prompt in drawn))
    columns = []
    for category in there if len(there) > 1 else ():
        prompts = {prompt for prompt in drawn if categories.get(prompt) == category}
        part = replace(scored, rows=scored.rows[scored.rows["prompt"].isin(prompts)])
        own = [replace(item, drawn=tuple(one for one in item.drawn if one.prompt in prompts)) for item in methods]
        columns += [
            replace(column_of(figure, part, own, seed), category=category)
            for figure in figures
            if isinstance(figure, Figure) and figure.protocol == "sound"
        ]
    return [column for column in columns if any(cell.estimate for cell in column.cells.values())]


def _set_cell(figure: SetFigure, scored: Scored, method: Method, seed: int) -> Cell:
    """The distance of a method's pictures to their references, with the scatter of halves."""
    pairs = [item for item in method.drawn if item.file is not None and str(item.file) in scored.features]
    pairs = [item for item in pairs if str(item.reference.file) in scored.features]
    listed = figure.suffixes or ("",)
    pairs = [item for item in pairs if item.file.name.endswith(listed)]
    shown = dict.fromkeys(item.reference for item in pairs)
    references = {item.name: str(item.file) for item in shown if item.file.name.endswith(listed)}
    units = units_of([method])
    owners = np.array([units[name] for name in references]), np.array([item.reference.unit for item in pairs])
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
    told = within(Estimate(value, float(low), float(high), len(set(owners[0]))), figure.bounds)
    return Cell(told, left_out, len(pairs), quotable=quotable, people=_people([method], set(references)))


def _mean_column(figure: Figure, scored: Scored, methods: Sequence[Method], seed: int) -> Column:
    """The means of all methods, from the same draws of references."""
    units = units_of(methods)
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
    matrices = {
        name: matrix_of(
            own.assign(reference=own["reference"].map(units)), "number", list(dict.fromkeys(units.values())), prompts
        )
        for name, own in by_method.items()
    }
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
    competing = {method.name for method in methods if method.competes}
    sign = 1 if figure.higher_is_better else -1
    known = [
        (sign * mean.value, name)
        for name, mean in zip(compared.names, compared.means, strict=True)
        if mean.known and name in competing
    ]
    if figure.higher_is_better is not None and len(known) > 1:
        ranks, best = compared.first(figure.higher_is_better, competing), max(known)[1]
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
        close = name in ranks and best != name and compared.difference(name, best).may_be(0)
        first = ranks.get(name) if estimate.n > 1 else None  # of one reference all draws are the same
        there = _people(methods, set(rows.loc[rows["number"].notna(), "reference"]))
        cells[name] = Cell(estimate, left_out, len(rows) - left_out, first, close, people=there)
    return cells


def _people(methods: Sequence[Method], references: set[str]) -> int | None:
    """How many people these references show; None where it is not said of all of them."""
    shown = {item.reference.name: item.reference.person for method in methods for item in method.drawn}
    people = {shown[name] for name in references}
    return None if "" in people else len(people)


def with_absent(column: Column, methods: Sequence[Method]) -> Column:
    """The column of those that were drawn, with a cell for every method: one that could not be drawn has its reason there."""
    absent = {
        method.name: Cell(None, why=f"not drawn: {method.absent}", absent=True) for method in methods if method.absent
    }
    return replace(column, cells=column.cells | absent)


def not_measured(figure: NotMeasured, methods: Sequence[Method]) -> Column:
    return Column(figure, {method.name: Cell(None, why=figure.why) for method in methods})
