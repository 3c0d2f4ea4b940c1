"""What a run did: a summary in the terminal, and one offline page of HTML in the run.

    python curation/report.py RUN [--name CUT] [--open] [--no-html]

RUN is a folder or an object-store URL, finished or not. Exit code 0: the numbers agree (a step that is not finished
is no contradiction); 1: they do not, and which is printed; 2: there is no such run or cut.
"""

from __future__ import annotations

import os
import sys

if __package__ in (None, ""):
    # Python put this file's folder first, where select.py would stand in for the standard library's
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

import argparse
import tempfile
import webbrowser
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from curation.ledger.ledger import Ledger, NoRun, read
from curation.ledger.tables import LedgerError
from curation.reporting.facts import web
from curation.reporting.funnel import alone, funnel, published
from curation.reporting.page import banners, build, percent, verdict_line
from curation.run_directory.run import Run

PAGE, BAR = "report.html", 28
STATES = {"done": "green", "partial": "yellow", "not yet": "dim"}


def summary(ledger: Ledger, console: Console) -> None:
    """Print what matters, broken identities last, where they are seen."""
    console.print()
    agree = "[green]reconciles ✓[/]" if ledger.reconciles else "[bold red]does not reconcile ✗[/]"
    console.print(f"[bold]{escape(verdict_line(ledger))}[/]  {agree}   [dim]cut {escape(ledger.cut or '(none)')}[/]")
    steps = []
    for step in ledger.steps:
        far = f" {step.have:,}" + (f"/{step.of:,}" if step.of else "") if step.state == "partial" else ""
        mark = {"done": "✓", "partial": "partial", "not yet": "not yet"}[step.state]
        steps.append(f"[{STATES[step.state]}]{step.name} {mark}{far}[/]")
    console.print("  ".join(steps))
    for kind, text in banners(ledger):
        if kind == "note" and not text.startswith("Not finished"):
            console.print(f"[yellow]![/] {escape(text)}")
    console.print(_funnel(ledger))
    if ledger.verdicts is not None:
        console.print(_alone(ledger))
    _outside(ledger, console)
    for identity in ledger.broken:
        console.print(
            f"[bold red]✗ {escape(identity.name)}[/]: {identity.left:,} against {identity.right:,} "
            f"({escape(identity.terms)})"
        )


def _funnel(ledger: Ledger) -> Table:
    stages = funnel(ledger)
    estimated = any(stage.estimated for stage in stages)
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1))
    for name, side in (
        ("step", "left"),
        ("", "left"),
        ("images", "right"),
        ("of before", "right"),
        ("of all", "right"),
    ):
        table.add_column(name, justify=side, no_wrap=True)
    if estimated:
        table.add_column("estimate, 95 %", justify="right")
    top, before = next((stage.count for stage in stages if stage.count), 0), None
    for stage in stages:
        if stage.count is None:
            table.add_row(stage.name, "", "[dim]not yet[/]", "", "", *([""] if estimated else []))
            continue
        share = stage.count / top if top else 0.0
        bar = f"[green]{'█' * round(BAR * share) or '▏'}[/]"
        number = f"{'≈ ' if stage.estimated else ''}{stage.count:,}{' partial' if stage.partial else ''}"
        last = [f"{stage.low:,} to {stage.high:,}" if stage.estimated else ""] if estimated else []
        table.add_row(
            stage.name, bar, number, percent(min(1, stage.count / before)) if before else "", percent(share), *last
        )
        before = stage.count
    return table


def _alone(ledger: Ledger) -> Table:
    rows, number, sample = alone(ledger.verdicts)
    of = f"of {number:,} {'audited ' if sample else ''}images through every check"
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1), title=of, title_justify="left")
    table.title_style = "dim"
    for name, side in (("check", "left"), ("rejects", "right"), ("", "right"), ("only it", "right"), ("", "right")):
        table.add_column(name, justify=side)
    for row in rows:
        shares = [text for s in (row.fails, row.only) for text in (f"{s.hits:,}", percent(s.value))]
        table.add_row(row.check, *shares)
    return table


def _outside(ledger: Ledger, console: Console) -> None:
    found = web(ledger)
    if found and found.classes:
        lost = ", ".join(f"{number:,} {name}" for name, number in list(found.classes.items())[:8])
        healed = sum(found.healed.values())
        console.print(f"lost on the web: {escape(lost)}" + (f"; {healed:,} healed" if healed else ""))
    against = published(ledger)
    if against:
        console.print(
            f"against FaceCaptionHQ-4M: recall {percent(against.recall.value)} of {against.judged:,} judged, "
            f"Jaccard {percent(against.jaccard.value)}"
        )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python curation/report.py", description=__doc__.split("\n\n")[0])
    parser.add_argument("run", metavar="RUN", help="a run directory: a folder or an object-store URL")
    parser.add_argument("--name", metavar="CUT", help="which cut; default: the recipe's")
    parser.add_argument("--open", action="store_true", help="show the page in a browser")
    parser.add_argument("--no-html", action="store_true", help="the terminal only; nothing is written")
    asked = parser.parse_args(arguments)
    run, console = Run(asked.run), Console(highlight=False)
    try:
        ledger = read(run, asked.name)
    except NoRun as error:
        print(error, file=sys.stderr)
        return 2
    except LedgerError as error:
        print(f"does not reconcile: {error}", file=sys.stderr)
        return 1
    page = None if asked.no_html else build(ledger)
    summary(ledger, console)
    if page is not None:
        run.write_bytes(PAGE, page)
        console.print(f"\nreport: {escape(run.url(PAGE))}", soft_wrap=True)
        if asked.open:
            _show(run, page)
    return 0 if ledger.reconciles else 1


def _show(run: Run, page: bytes) -> None:
    file = Path(run.path(PAGE))
    if not run.is_local:
        file = Path(tempfile.mkdtemp(prefix="report-")) / PAGE
        file.write_bytes(page)
    webbrowser.open(file.as_uri())


if __name__ == "__main__":
    sys.exit(main())
