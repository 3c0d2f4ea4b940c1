r"""The table for a paper: LaTeX with booktabs, both protocols, intervals, N, and what differs between the methods.

`\input{table.tex}` in a document with \usepackage{booktabs} and \usepackage{graphicx}; what a reader must know of it stands in
the caption and, below the table, in its notes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from evaluation.head import ABOUT, Head
from evaluation.report.text import notes, people
from evaluation.sets import Method
from evaluation.table import Cell, Column

SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
}  # fmt: skip


def escaped(text: str) -> str:
    """Any text as LaTeX shows it letter for letter."""
    return re.sub(r"[\\{}$&#%_~^<>|]", lambda found: SPECIAL[found[0]], " ".join(text.split()))


def latex(columns: Sequence[Column], methods: Sequence[Method], head: Head) -> str:
    """A `table*` with a row a figure; the highest P(best) of a row is bold where its difference is not within noise."""
    names = [method.name for method in methods]
    lines = [
        r"\begin{table*}", r"\centering", r"\resizebox{\textwidth}{!}{%", rf"\begin{{tabular}}{{ll{'l' * len(names)}}}",
        r"\toprule", _row(["figure", "protocol", *map(escaped, names)]), r"\midrule",
    ]  # fmt: skip
    lines += [_row([escaped(what), "", *map(escaped, of)]) for what, of in head.differs]
    lines.append(r"\midrule")
    for column in columns:
        clear = _clearly_first(column)
        cells = [_cell(column.cells[name], name == clear) for name in names]
        lines.append(_row([escaped(column.figure.title), column.figure.protocol, *cells]))
    lines += [r"\bottomrule", r"\end{tabular}}"]
    caption = " ".join([f"{head.title}.", ABOUT, *(f"{fact}." for fact in head.facts)])
    lines += [
        rf"\caption{{{escaped(caption)} $\sim$: within noise of the best of the row, as all is where N is 1.}}",
        r"\label{tab:evaluation}",
    ]
    lines += [r"\par\raggedright\footnotesize"]
    lines += [rf"{escaped(note)}.\par" for note in notes(columns)]
    return "\n".join([*lines, r"\end{table*}", ""])


def _row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _clearly_first(column: Column) -> str | None:
    """The best method of a column whose differences from all others are beyond noise; None where there is none, or where
    one reference tells nothing of noise."""
    ranked = {name: cell.first for name, cell in column.cells.items() if cell.first is not None}
    if not ranked or any(cell.close or not _has_interval(cell) for cell in column.cells.values() if cell.estimate):
        return None
    return max(ranked, key=ranked.__getitem__)


def _has_interval(cell: Cell) -> bool:
    return cell.estimate is not None and cell.estimate.has_interval


def _cell(cell: Cell, bold: bool) -> str:
    if cell.estimate is None:
        return "n/a"
    told = cell.estimate
    value = rf"\textbf{{{told.value:.3f}}}" if bold else f"{told.value:.3f}"
    interval = f"[{told.low:.3f}, {told.high:.3f}] " if _has_interval(cell) else ""
    more = [f"N={told.n}{people(cell)}", *(["too few to quote"] if not cell.quotable else [])]
    more += [f"{cell.left_out} left out"] if cell.left_out else []
    close = r"$\sim$" if cell.close else ""
    return rf"{value}{close} {{\scriptsize {interval}{', '.join(more)}}}"
