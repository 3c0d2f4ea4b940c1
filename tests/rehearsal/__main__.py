"""The curation at its full size without the web: a made run of any number of images goes through every step that reads no
pixel, as a person would call it.

    make rehearse ROWS=10_000_000

Evidence, failures and candidates are drawn from a finished run of the sample (`make curate` makes it). Ten million images take
about 3 GB of disk and half an hour on two cores; what was made is removed at the end, unless KEEP=1.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from common.command_line import exit_code_of
from common.errors import UserError
from common.progress import say
from curation.calibration.calibrate import ROOT
from curation.recipe import recipe as recipes
from curation.recipe.recipe import Recipe
from curation.run_directory.candidates import selected_counts
from curation.run_directory.run import Run
from curation.run_directory.snapshot import snapshots
from tests.bench.duel import Bench
from tests.rehearsal.make import make_run
from tests.rehearsal.measured import Measured, measured
from tests.rehearsal.pool import pool_of
from tests.rehearsal.steps import STRICT

SAMPLE = ROOT / "runs" / "sample"
MOST_SECONDS, MOST_MEGABYTES, MOST_PAGE, MOST_OF_SCAN = 60, 2048, 10e6, 3.0


def rehearsal_recipe(*changes: str) -> Recipe:
    """The sample's filters with the parts and the audit of a large run; no identity vectors, for which pixels are needed."""
    own = ["annotate.identity=none", "fetch.local_web=null", "select.rank_over=metadata", "fetch.part_size=1000"]
    return recipes.load(ROOT / "curation" / "recipe" / "sample.yaml", [*own, "pack.samples_per_shard=10000", *changes])


def rehearse(rows: int, sample: Path, root: Path, processes: int) -> Bench:
    """Every step once; a table of what each took, beside its limit.

    Raises:
        UserError: a step failed, or the numbers do not reconcile.
    """
    recipe = rehearsal_recipe()
    run = Run(root)
    if not _is_made(root, rows):
        run = make_run(root, rows, recipe, pool_of(Run(sample), recipe), processes=processes)
    bench = Bench(f"rehearsal of {rows:,} selected images, each step once")

    def step(name: str, *arguments: str) -> Measured:
        say("rehearse", f"{name} ...")
        took = measured([*arguments], root / f"{name}.log")
        if took.code:
            raise UserError(f"{name} of the rehearsal ended with {took.code}: {took.said}")
        bench.row(f"{name}: the driver", f"{took.megabytes:,.0f} MB", "limit", f"{MOST_MEGABYTES:,} MB",
                  took.megabytes / MOST_MEGABYTES, most=1.0)  # fmt: skip
        return took

    scan = core_seconds_said(step("scan", "-m", "tests.rehearsal.steps", "scan", str(root)))
    for name, cut in (("cut", recipe.name), ("recut", "strict")):
        changes = ["--set", STRICT] if name == "recut" else []
        took = step(name, "-m", "curation", "cut", str(root), "--name", cut, *changes)
        bench.row(f"{name}: {took.seconds:.0f} s, Ray's start among them", f"{took.core_seconds:.1f} core s",
                  "the same columns with one predicate", f"{scan:.1f} core s", took.core_seconds / scan, most=MOST_OF_SCAN)  # fmt: skip
    step("annotate", "-m", "curation", "annotate", str(root), "--name", recipe.name)
    took = step("plan", "-m", "tests.rehearsal.steps", "plan", str(root))
    _within(bench, "plan of the shards", took.seconds, MOST_SECONDS, "s")
    took = step("report", str(ROOT / "curation" / "report.py"), str(root), "--name", recipe.name)
    _within(bench, "report", took.seconds, MOST_SECONDS, "s")
    _within(bench, "report.html", run.size("report.html") / 1e6, MOST_PAGE / 1e6, "MB")
    return bench


def _is_made(root: Path, rows: int) -> bool:
    """Whether a run of that size was made there, and kept."""
    run = Run(root)
    return bool(snapshots(run)) and selected_counts(run)["selected"] == rows


def core_seconds_said(took: Measured) -> float:
    return float(took.said.split()[-2])


def _within(bench: Bench, what: str, value: float, limit: float, unit: str) -> None:
    bench.row(what, f"{value:.1f} {unit}", "limit", f"{limit:.0f} {unit}", value / limit, most=1.0)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=lambda text: int(text.replace(",", "_")), help="selected images, e.g. 10_000_000")
    parser.add_argument("--sample", type=Path, default=SAMPLE, help="a finished run that evidence is drawn from")
    parser.add_argument(
        "--root", type=Path, help="where the run is made; default: a temporary folder beside the sample's"
    )
    parser.add_argument("--keep", action="store_true", help="do not remove it")
    parser.add_argument("--processes", type=int, default=2, help="that make the run")
    options = parser.parse_args(arguments)

    def call() -> int:
        if not (options.sample / "manifest.json").exists():
            raise UserError(f"{options.sample}: no run is there: `make curate` makes the sample's")
        if (
            options.root
            and options.root.exists()
            and any(options.root.iterdir())
            and not _is_made(options.root, options.rows)
        ):
            raise UserError(f"{options.root}: something else is there: name a folder that is empty, or not there yet")
        root = options.root or Path(tempfile.mkdtemp(prefix="rehearsal-", dir=options.sample.parent))
        try:
            table = rehearse(options.rows, options.sample, root, options.processes).table
        finally:
            if not options.keep:
                shutil.rmtree(root, ignore_errors=True)
        Console(width=None if sys.stdout.isatty() else 200).print(table)
        return 0

    return exit_code_of(call)


if __name__ == "__main__":
    sys.exit(main())
