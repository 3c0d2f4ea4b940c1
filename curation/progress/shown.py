"""How far a run is, as a line for a log and as a table for a terminal."""

from __future__ import annotations

from rich.progress_bar import ProgressBar as Bar
from rich.table import Table
from rich.text import Text

from common.progress import duration_text
from curation.progress.state import DEFAULT, DONE, FORECAST_RATE, RUNNING, RunProgress, StepProgress

MARKS = {DONE: "\N{CHECK MARK}", RUNNING: "\N{BLACK RIGHT-POINTING SMALL TRIANGLE}"}
BASIS = {FORECAST_RATE: " by the forecast", DEFAULT: " by a default"}


def line_of(told: RunProgress, note: str = "") -> str:
    """The step that is at work, and what all steps that remain will take."""
    step = told.current
    words = [f"{step.done:,} of {step.total:,} {step.unit}" if step.total is not None else "begun", _speed(step)]
    if step.seconds_left is not None:
        words.append(f"{'about ' if step.basis in BASIS else ''}{duration_text(step.seconds_left)} left")
    text = ", ".join(word for word in words if word)
    if len(told.left) > 1:
        text += f"; {whole(told)}"
    return f"{text} {note}".strip()


def whole(told: RunProgress) -> str:
    """The time that all steps together still take, and by whose figures where nothing was measured."""
    if told.seconds_left is None:
        return f"all steps: unknown {told.unknown}"
    bound = "at most " if told.at_most else ""
    text = f"all steps: {bound}{duration_text(told.seconds_left)} left"
    waiting = [step for step in told.left if step.basis in BASIS]
    by = {basis: [step.step for step in waiting if step.basis == basis] for basis in BASIS}
    notes = [f"{', '.join(names)}{BASIS[basis]}" for basis, names in by.items() if names]
    return text + (f" ({'; '.join(notes)})" if notes else "")


def table_of(told: RunProgress) -> Table:
    """A row a step."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for justify in ("right", "left", "left", "right", "right", "right"):
        table.add_column(justify=justify)
    for step in told.steps:
        table.add_row(
            Text(step.step, "bold" if step.state == RUNNING else "dim"),
            MARKS.get(step.state, ""),
            _bar(step),
            _counted(step),
            _speed(step),
            _left(step),
        )
    table.add_row("", "", "", "", "", "")
    table.add_row("", "", Text(whole(told), "bold"), "", "", "")
    return table


def _bar(step: StepProgress) -> Bar | str:
    if step.state != RUNNING:
        return ""
    return Bar(total=step.total or None, completed=step.done, width=28, pulse=not step.total)


def _counted(step: StepProgress) -> str:
    bound = "<= " if step.at_most else ""
    if step.total is None:
        return "done" if step.state == DONE else ""
    return f"{step.done:,} / {bound}{step.total:,} {step.unit}" if step.state != DONE else f"{step.done:,} {step.unit}"


def _speed(step: StepProgress) -> str:
    if step.state != RUNNING or not step.done:
        return ""
    if step.per_second:
        return f"{step.per_second:,.1f} {step.unit}/s"
    return "measuring" if step.seconds_left is None else ""


def _left(step: StepProgress) -> str:
    if step.state == DONE:
        return f"took {duration_text(step.seconds)}" if step.seconds else ""
    if step.seconds_left is None:
        return "unknown"
    about = "~" if step.basis in BASIS else ""
    return f"{'<= ' if step.at_most else ''}{about}{duration_text(step.seconds_left)} left"
