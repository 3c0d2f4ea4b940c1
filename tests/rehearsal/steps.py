"""The steps of a rehearsal: what a person would call, and beside the cut a bare scan of the columns that it reads."""

from __future__ import annotations

import sys

import pyarrow.parquet as pq

from curation.recipe.recipe import Recipe
from curation.run_directory.attempts import images_file
from curation.run_directory.many_units import BOXES
from curation.run_directory.run import Run
from curation.run_directory.snapshot import require_snapshot
from curation.run_directory.units import FACTS, units_of
from tests.bench.duel import core_seconds

STRICT = "thresholds.text.max_area=0.005"  # of the recut


def scan(run: Run, recipe: Recipe) -> int:
    """Read the columns that a cut is made of, file by file, and count the rows of one predicate."""
    filters = recipe.open_filters()
    columns = ["id", *(f"image.{name}" for name in FACTS), *(item.column for item in filters.values())]
    coloured = 0
    for unit in units_of(run, require_snapshot(run)):
        for path in unit.scores:
            rows = pq.ParquetFile(run.path(path)).read(columns=columns, use_threads=False)
            std = rows[filters["grayscale"].column].combine_chunks().field("std")
            coloured += int((std.to_numpy(zero_copy_only=False) >= 2).sum())
        pq.ParquetFile(run.path(images_file(unit.tar))).read(columns=["id", BOXES], use_threads=False)
    return coloured


def plan(run: Run, recipe: Recipe, name: str) -> int:
    """The plan of the shards; how many samples it has."""
    from curation.packing.pack import make_plan

    return make_plan(run, recipe, name).num_rows


def main(step: str, root: str) -> None:
    """In a process of its own, `scan` or `plan`; prints core-seconds without what it takes to start."""
    from curation.pipeline import recipe_of

    run = Run(root)
    recipe = recipe_of(run)
    function = {"scan": lambda: scan(run, recipe), "plan": lambda: plan(run, recipe, recipe.name)}[step]
    print(f"{step} took {core_seconds(function):.2f} core-seconds")


if __name__ == "__main__":
    main(*sys.argv[1:])
