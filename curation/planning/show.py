"""A forecast as a table for a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from common.progress import duration_text
from curation.planning.forecast import Forecast, StepForecast
from curation.planning.spans import Span

WIDTH = 150  # of the table, in characters: into a file there is no terminal that has one
COLUMNS = {
    "images": "images",
    "gigabytes": "GB",
    "core_hours": "core-hours",
    "gpu_hours": "GPU-hours",
    "hours": "time",
    "dollars": "",
}


def show(told: Forecast, priced_by: str | None, console: Console | None = None) -> None:
    """Print it. `priced_by`: the user's file of prices; None: the examples."""
    console = console or Console(highlight=False, soft_wrap=True)
    console.width = max(console.width, WIDTH)
    target = told.target
    gpus = f" and {target.gpus:g} GPUs" if target.gpus else ""
    console.print(
        f"[bold]{escape(told.recipe)}[/] on {target.nodes} x {target.cores:g} cores{gpus}, by a pilot of {told.pilot_images:,} images "
        f"(seed {told.seed}). In brackets: 90 % intervals."
    )
    console.print(_table(told))
    neck = told.of(told.neck)
    if neck.hours and told.whole.hours and told.whole.hours.value:
        share = neck.hours.value / told.whole.hours.value
        console.print(f"[bold]The neck is {told.neck}[/]: {share:.0%} of the hours{_busy(neck, target.all_cores)}")
    else:
        console.print(f"[bold]The neck is {told.neck}[/], of the steps whose hours are known")
    console.print(f"{told.selection}.")
    for note in told.notes:
        console.print(f"[dim]{escape(note)}.[/]")
    prices = (
        "the EXAMPLE prices of curation/planning/prices.yaml: give your own with PRICE=" if not priced_by else priced_by
    )
    console.print(f"Priced by {escape(prices)}; cores are paid while a step has them, busy or not.")


def _busy(step: StepForecast, cores: float) -> str:
    """How busy its cores are: whether more of them would help."""
    if not step.core_hours or not step.hours or not step.hours.value:
        return ""
    share = min(1.0, step.core_hours.value / (step.hours.value * cores))
    remedy = "; it waits for the web: more connections (fetch.threads) help, more cores hardly" if share < 0.3 else ""
    return f", its cores are busy {share:.0%} of them{remedy if step.step == 'fetch' else ''}"


def _table(told: Forecast) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 3, 0, 0))
    table.add_column("")
    for head in COLUMNS.values():
        table.add_column(head or told.prices.currency, justify="right")
    for step in (*told.steps, told.whole):
        style = "bold" if step.step in (told.neck, "all") else None
        table.add_row(step.step, *(_cell(step, name) for name in COLUMNS), style=style)
    return table


def _cell(step: StepForecast, name: str) -> str:
    span: Span | None = getattr(step, name)
    if span is None:
        nothing = name == "images" or (name == "gigabytes" and step.step in ("cut", "all"))
        return "" if nothing else "unknown"
    if not span.high:
        return "-"
    texts = [_text(name, value, span.high) for value in (span.value, span.low, span.high)]
    return texts[0] if len(set(texts)) == 1 else f"{texts[0]} [{texts[1]} - {texts[2]}]"


def _text(name: str, value: float, largest: float) -> str:
    if name == "images":
        return f"{value:,.0f}"
    if name == "hours":
        return duration_text(3600 * value)
    if name == "dollars":
        return f"{value:,.{2 if largest < 100 else 0}f}"
    return f"{value:.2g}" if value < 10 else f"{value:,.0f}"
