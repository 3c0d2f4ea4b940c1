"""The report in the terminal: how far each step is, the funnel, what each filter rejects, broken equations last."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from curation.ledger.model import Ledger, StepState
from curation.reporting.facts import web
from curation.reporting.funnel import funnel, published, rejections
from curation.reporting.text import given_up_text, headline, notices_of, percent
from curation.reporting.two_cuts import two_cuts

BAR = 28  # letters of the widest bar


def print_summary(ledger: Ledger, console: Console) -> None:
    """Print what matters; broken equations come last, where they are seen."""
    agree = "[green]reconciles ✓[/]" if ledger.reconciles else "[bold red]does not reconcile ✗[/]"
    console.print(f"\n[bold]{escape(headline(ledger))}[/]  {agree}   [dim]cut {escape(ledger.cut or '(none)')}[/]")
    console.print("  ".join(_step(step) for step in ledger.steps))
    for kind, text in notices_of(ledger):
        if kind == "note" and not text.startswith("Not finished"):
            console.print(f"[yellow]![/] {escape(text)}")
    console.print(_funnel_table(ledger))
    if ledger.has("verdicts"):
        console.print(_rejections_table(ledger))
    _print_two_cuts(ledger, console)
    _print_losses(ledger, console)
    _print_published(ledger, console)
    for equation in ledger.broken:
        console.print(
            f"[bold red]✗ {escape(equation.name)}[/]: {equation.left:,} against {equation.right:,} "
            f"({escape(equation.terms)})"
        )


def _step(step: StepState) -> str:
    if step.state == "done":
        return f"[green]{step.name} ✓[/]"
    if step.state == "not yet":
        return f"[dim]{step.name} not yet[/]"
    return f"[yellow]{step.name} partial {step.have:,}{f'/{step.of:,}' if step.of else ''}[/]"


def _table(columns: list[tuple[str, str]], title: str | None = None) -> Table:
    """A table without borders. `columns`: (heading, "left" or "right")."""
    table = Table(
        box=None, pad_edge=False, header_style="dim", padding=(0, 1), title=title, title_justify="left",
        title_style="dim",
    )  # fmt: skip
    for heading, side in columns:
        table.add_column(heading, justify="right" if side == "right" else "left", no_wrap=True)
    return table


def _funnel_table(ledger: Ledger) -> Table:
    stages = funnel(ledger)
    estimated = any(stage.estimated for stage in stages)
    columns = [("step", "left"), ("", "left"), ("images", "right"), ("of before", "right"), ("of all", "right")]
    table = _table([*columns, *([("estimate, 95 %", "right")] if estimated else [])])
    for stage in stages:
        if stage.count is None:
            table.add_row(stage.name, "", "[dim]not yet[/]")
            continue
        bar = f"[green]{'█' * round(BAR * (stage.of_all or 0)) or '▏'}[/]"
        number = f"{'≈ ' if stage.estimated else ''}{stage.count:,}{' partial' if stage.partial else ''}"
        interval = f"{stage.low:,} to {stage.high:,}" if stage.estimated else ""
        shares = percent(stage.of_before), percent(stage.of_all)
        table.add_row(stage.name, bar, number, *shares, *([interval] if estimated else []))
    return table


def _rejections_table(ledger: Ledger) -> Table:
    rejected = rejections(ledger)
    columns = [("check", "left"), ("rejects", "right"), ("", "right"), ("only it", "right"), ("", "right")]
    table = _table(columns, f"of {rejected.images:,} {'audited ' if rejected.sample else ''}images through every check")
    for check, shares in rejected.checks.items():
        table.add_row(check, *(text for share in shares for text in (f"{share.hits:,}", percent(share.value))))
    return table


def _print_two_cuts(ledger: Ledger, console: Console) -> None:
    compared = two_cuts(ledger)
    if compared is None:
        return
    table = _table([("cut", "left"), ("keeps alone", "right"), ("since the other rejects it for", "left")])
    for alone in (compared.here, compared.there):
        reasons = ", ".join(f"{label} {number:,}" for label, _, number in alone.reasons)
        table.add_row(escape(alone.cut), f"{alone.images:,}", reasons)
    console.print(
        f"kept by both cuts: {compared.both:,}; by neither: {compared.neither:,}; of {compared.judged:,} images"
    )
    console.print(table)


def _print_losses(ledger: Ledger, console: Console) -> None:
    losses = web(ledger)
    if losses and losses.classes:
        lost = ", ".join(f"{number:,} {name}" for name, number in list(losses.classes.items())[:8])
        healed = sum(losses.healed.values())
        console.print(f"lost on the web: {escape(lost)}" + (f"; {healed:,} healed" if healed else ""))
        for cost in losses.given_up:
            console.print(escape(given_up_text(cost)))


def _print_published(ledger: Ledger, console: Console) -> None:
    against = published(ledger)
    if against:
        console.print(
            f"against FaceCaptionHQ-4M: recall {percent(against.recall.value)} of {against.judged:,} judged, "
            f"Jaccard {percent(against.jaccard.value)}"
        )
