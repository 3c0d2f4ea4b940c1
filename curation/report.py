"""What a run did: a summary in the terminal, and one offline page of HTML in the run.

    python curation/report.py RUN [--name CUT] [--beside CUT] [--open] [--no-html]

RUN is a folder or an object-store URL, finished or not. Exit code 0: the numbers agree (a step that is not finished
is no contradiction); 1: they do not, and which is printed; 2: what a person has to change, e.g. there is no such run.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import webbrowser
from pathlib import Path

# a script of the user's, like those in jobs/: it runs from any folder, also where the package is not installed
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console
from rich.markup import escape

from common.command_line import exit_code_of
from curation.ledger.other_cut import load_other_cut
from curation.ledger.read import read_ledger
from curation.ledger.tables import LedgerError
from curation.recipe.recipe import checked_name
from curation.reporting.page import render_page
from curation.reporting.terminal import print_summary
from curation.run_directory.run import Run

PAGE = "report.html"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python curation/report.py", description=__doc__.split("\n\n")[0])
    parser.add_argument("run", metavar="RUN", help="a run directory: a folder or an object-store URL")
    parser.add_argument("--name", metavar="CUT", help="which cut; default: the recipe's")
    parser.add_argument(
        "--beside", metavar="CUT", help="the cut it is compared with; default: the newest other one of the same images"
    )
    parser.add_argument("--open", action="store_true", help="show the page in a browser")
    parser.add_argument("--no-html", action="store_true", help="the terminal only; nothing is written")
    options = parser.parse_args(arguments)
    return exit_code_of(lambda: _report(options))


def _report(options: argparse.Namespace) -> int:
    run, console = Run(options.run), Console(highlight=False)
    for name in filter(None, (options.name, options.beside)):
        checked_name(name)
    try:
        ledger = read_ledger(run, options.name)
        load_other_cut(ledger, options.beside)
    except LedgerError as error:
        print(f"does not reconcile: {error}", file=sys.stderr)
        return 1
    page = None if options.no_html else render_page(ledger)
    print_summary(ledger, console)
    if page is not None:
        run.write_bytes(PAGE, page)
        console.print(f"\nreport: {escape(run.url(PAGE))}", soft_wrap=True)
        if options.open:
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
