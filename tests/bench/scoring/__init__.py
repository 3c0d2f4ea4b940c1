"""The step score beside the models that it calls, beside Ray Data written the obvious way, and its order beside the best.

`python -m tests.bench scoring`, or smaller: `python -m tests.bench.scoring --images 100,300 --rounds 1`. Costs are
core-seconds of all processes, by the slope between two numbers of images: what does not grow with them is start-up.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from curation.calibration.calibrate import ROOT
from curation.cutting.judge import judge
from curation.filters.evidence import FAIL
from curation.filters.registry import CHECKS
from curation.recipe import recipe as recipes
from curation.recipe.recipe import Recipe
from curation.run_directory.run import Run
from curation.run_directory.units import UnitScores, units_of
from curation.scoring.operator import ScoringOperator
from tests.bench.duel import Bench
from tests.bench.scoring.orders import best_order, cost_of
from tests.bench.scoring.photo_run import photo_run, sample_photos
from tests.bench.scoring.spent import core_seconds_of

RECIPES = {"the paper's filters": "facecaptionhq-4m", "clean": "facecaptionhq-4m-clean"}
SIZES = 1000, 3000
PART = 100  # images: a worker knows the costs after one part, and the first are the smaller size's too
ROUNDS = 3
CHAIN = 2  # so many times fewer images for the chains of Ray Data, which only show what a gain is
MODELS, ORDER = 1.15, 1.03  # goals


def bench(sizes: tuple[int, int] = SIZES, rounds: int = ROUNDS) -> Bench:
    bench = Bench(f"the step score, slope between {sizes[0]:,} and {sizes[1]:,} images, {os.cpu_count()} cores")
    for title, name in RECIPES.items():
        recipe = full_recipe(name)
        with tempfile.TemporaryDirectory(prefix="facemakeup-bench-") as scratch:
            folder = Path(scratch)
            ours, start = bench_models(bench, title, recipe, folder, sizes, rounds)
            bench_order(bench, title, recipe, Run(folder / str(sizes[1])), folder / "audited")
            if recipe.filters.drawing is None:  # the chains are of filters that need no other
                bench_chains(bench, title, folder, recipe, tuple(size // CHAIN for size in sizes), ours, start)
    return bench


def full_recipe(name: str) -> Recipe:
    """A recipe of 10M images, where an audit of 2,000 is nothing."""
    sources = "sources.facecaption=[none.parquet]"
    return recipes.load(ROOT / "curation" / "recipe" / f"{name}.yaml", [sources, "score.audit_minimum=0"])


def bench_models(
    bench: Bench, title: str, recipe: Recipe, folder: Path, sizes: tuple[int, int], rounds: int
) -> tuple[float, float]:
    """Returns ours: core-seconds an image, and of start-up."""
    (folder / "recipe.json").write_text(recipe.model_dump_json())
    for size in sizes:
        _, snapshot = photo_run(folder / str(size), size, PART)
        pq.write_table(snapshot, folder / str(size) / "snapshot.parquet")
    # the models are called on what the score step has called them on, so it comes first
    turns = [(_slope("ours", folder, sizes), _slope("bare", folder, sizes)) for _ in range(rounds)]
    ours, bare = (statistics.median(turn[side][0] for turn in turns) for side in (0, 1))
    start = statistics.median(turn[0][1] for turn in turns)
    bench.row(
        f"{title}: the score step", f"{_milliseconds(ours)}, {start:.0f} core-s of start-up", "its models, one decode",
        _milliseconds(bare), ours / bare, most=MODELS,
    )  # fmt: skip
    return ours, start


def bench_chains(
    bench: Bench, title: str, folder: Path, recipe: Recipe, sizes: tuple[int, int], ours: float, start: float
) -> None:
    for size in sizes:
        _, snapshot = photo_run(folder / str(size), size, PART)
        pq.write_table(snapshot, folder / str(size) / "snapshot.parquet")
    for side, beside in (
        ("decoding anew", "map_batches a filter, each decodes"),
        ("pixels in the store", "map_batches a filter, pixels in the store"),
    ):
        theirs, _ = _slope(side, folder, sizes)
        bench.row(f"{title}: the score step", _milliseconds(ours), beside, _milliseconds(theirs), ours / theirs)


def bench_order(bench: Bench, title: str, recipe: Recipe, run: Run, scratch: Path) -> None:
    """The orders that a run's parts had, beside others: by the costs and verdicts of every filter on every photo."""
    seconds, rejects = audited(recipe, scratch)
    needs = {name: item.needs for name, item in recipe.open_filters().items()}
    recorded = [run.read_json(path) for path in run.glob("scores/order/*.json")]
    measured = [one["order"] for one in recorded if all(each["seconds"] for each in one["estimates"].values())]
    chosen = statistics.mean(cost_of(order, seconds, rejects) for order in measured)
    best, paper = (cost_of(order, seconds, rejects) for order in (best_order(seconds, rejects, needs), list(seconds)))
    whole = sum(seconds.values())
    for beside, theirs, most in (
        ("the best valid order", best, ORDER), ("the paper's order", paper, None), ("every filter on every image", whole, None),
    ):  # fmt: skip
        bench.row(
            f"{title}: the orders of {len(measured)} parts, without decode", _milliseconds(chosen), beside,
            _milliseconds(theirs), chosen / theirs, most=most,
        )  # fmt: skip


def audited(recipe: Recipe, root: Path) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Of every filter, on every photo of the sample: seconds an image, and whom it rejects, with what is derived from it."""
    run, snapshot = photo_run(root, len(sample_photos()), PART)
    filters = recipe.open_filters()
    fingerprints = {name: item.fingerprint for name, item in filters.items()}
    operator = ScoringOperator(run, recipe, list(filters), fingerprints, 1 << 64, "cpu")
    for unit in units_of(run, snapshot):
        operator(unit.as_row())
    judged = []
    for unit in units_of(run, snapshot):
        known = UnitScores(run, unit, filters)
        judged.append(judge(known.evidence, filters, recipe.thresholds, known.boxes).checks)
    fails = {name: np.concatenate([checks[name] == FAIL for checks in judged]) for name in judged[0]}
    rejects = {name: fails[name] for name in filters}
    for check in CHECKS:
        if check.name in fails and check.name not in filters:
            rejects[check.needs[-1]] = rejects[check.needs[-1]] | fails[check.name]
    return {name: operator.costs.cost(name) or 0.0 for name in filters}, rejects


def _slope(side: str, folder: Path, sizes: tuple[int, int]) -> tuple[float, float]:
    """Core-seconds an image, and those that do not grow with their number."""
    spent = []
    for size in sizes:
        command = [sys.executable, "-m", "tests.bench.scoring.sides", side, f"{folder}/recipe.json", f"{folder}/{size}"]
        if side == "bare":  # which counts its own
            spent.append(
                float(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout.split()[-1])
            )
        else:
            spent.append(core_seconds_of(command))
    an_image = (spent[1] - spent[0]) / (sizes[1] - sizes[0])
    return an_image, spent[0] - sizes[0] * an_image


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.1f} core-ms an image"
