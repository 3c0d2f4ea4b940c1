"""The sides of the measurement, each in a process of its own: `python -m tests.bench.scoring.sides SIDE RECIPE RUN`."""

from __future__ import annotations

import multiprocessing
import shutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from common.cluster.runtime import connected
from curation.recipe.recipe import Recipe
from curation.run_directory.run import Run
from curation.run_directory.unit_bytes import UnitBytes
from curation.run_directory.units import Unit, UnitScores, units_of
from curation.scoring.score import score
from tests.bench.scoring.bare import BareModels
from tests.bench.scoring.naive import chain

WORKERS = 2


def main(side: str, recipe_file: str, root: str) -> None:
    recipe = Recipe.model_validate_json(Path(recipe_file).read_text())
    SIDES[side](Run(root), recipe, pq.read_table(Path(root) / "snapshot.parquet"))


def ours(run: Run, recipe: Recipe, snapshot: pa.Table) -> None:
    """The step score, from the beginning."""
    shutil.rmtree(Path(run.root) / "scores", ignore_errors=True)
    with connected(WORKERS):
        score(run, recipe, snapshot, recipe.open_filters())


def bare(run: Run, recipe: Recipe, snapshot: pa.Table) -> None:
    """Of a run that is scored: its images' decode and the models that saw them, nothing else, in as many processes. Says
    its own core-seconds, since reading who saw what is no part of it."""
    units = units_of(run, snapshot)
    with ProcessPoolExecutor(WORKERS, multiprocessing.get_context("spawn")) as pool:
        shares = [pool.submit(_bare, run, recipe, units[worker::WORKERS]) for worker in range(WORKERS)]
        print(sum(share.result() for share in shares))


def _bare(run: Run, recipe: Recipe, units: list[Unit]) -> float:
    filters = recipe.open_filters()
    models, spent = BareModels(filters, recipe.images), 0.0
    for unit in units:
        known = UnitScores(run, unit, filters)
        saw = {name: evidence.seen for name, evidence in known.evidence.items()}
        with UnitBytes(run, unit.tar, known.fetched, range(len(unit))) as data:
            images = [(data.read(row), [name for name in filters if saw[name][row]]) for row in data.in_tar_order]
        if not spent:
            models(images[0][0], filters)  # the first call of a model also loads it
        started = time.process_time()
        for image, names in images:
            models(image, names)
        spent += time.process_time() - started
    return spent


def naive(run: Run, recipe: Recipe, snapshot: pa.Table, pixels_travel: bool) -> None:
    """The filters as a chain of Ray Data's."""
    with connected(WORKERS):
        chain(run, recipe, snapshot, pixels_travel)


SIDES = {
    "ours": ours,
    "bare": bare,
    "decoding anew": lambda run, recipe, snapshot: naive(run, recipe, snapshot, pixels_travel=False),
    "pixels in the store": lambda run, recipe, snapshot: naive(run, recipe, snapshot, pixels_travel=True),
}

if __name__ == "__main__":
    main(*sys.argv[1:])
