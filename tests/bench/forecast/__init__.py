"""Ten seeded pilots of the sample beside a whole run of it: does what they forecast come to pass?"""

from __future__ import annotations

import tempfile

from common.cluster.runtime import connected
from curation.pipeline import STEPS, Curation
from curation.planning.costs import Target
from curation.planning.facts import ImageFacts, read_facts
from curation.planning.forecast import Forecast, forecast
from curation.planning.meter import StepCost
from curation.planning.pilot import measured, run_pilot
from curation.planning.prices import load_prices
from curation.planning.processes import CoreSeconds
from curation.planning.spans import Span
from curation.progress.outlook import cores
from curation.recipe.recipe import Recipe
from curation.run_directory.run import Run
from tests.bench.curation import sample_recipe
from tests.bench.duel import Bench

PILOTS, IMAGES = 10, 200


def whole_run(recipe: Recipe) -> tuple[ImageFacts, dict[str, StepCost], float]:
    """What became of its images, what its steps took, on how many cores."""
    with tempfile.TemporaryDirectory() as place, CoreSeconds() as core_seconds, connected():
        curation = Curation(Run(f"{place}/run"), recipe)
        costs = measured(curation, core_seconds)
        return read_facts(curation.run, curation.name), costs, cores()


def truth_of(facts: ImageFacts, costs: dict[str, StepCost]) -> dict[str, float]:
    """By "step, figure", as `figures_of` has them."""
    taken, kept = facts.taken > 0, facts.kept > 0
    images = {
        "select": len(facts), "fetch": facts.fetched.sum(), "score": facts.taken.sum(), "cut": facts.taken.sum(),
        "annotate": facts.kept.sum(), "pack": facts.packed.sum(),
    }  # fmt: skip
    sizes = {
        "fetch": facts.came.sum(), "score": facts.size[taken].sum(), "annotate": facts.size[kept].sum(),
        "pack": facts.sample.sum(),
    }  # fmt: skip
    truth = {f"{step}, images": float(count) for step, count in images.items()}
    truth |= {f"{step}, GB": float(size) / 1e9 for step, size in sizes.items()}
    truth |= {f"{step}, core-hours": costs[step].core_seconds / 3600 for step in STEPS}
    truth |= {f"{step}, hours": costs[step].seconds / 3600 for step in STEPS}
    truth["all, core-hours"] = sum(cost.core_seconds for cost in costs.values()) / 3600
    truth["all, hours"] = sum(cost.seconds for cost in costs.values()) / 3600
    return truth


def figures_of(told: Forecast) -> dict[str, Span]:
    """The spans of a forecast."""
    names = {"images": "images", "gigabytes": "GB", "core_hours": "core-hours", "hours": "hours"}
    steps = (*told.steps, told.whole)
    return {
        f"{step.step}, {name}": span
        for step in steps
        for field, name in names.items()
        if (span := getattr(step, field))
    }


def bench(pilots: int = PILOTS, images: int = IMAGES) -> Bench:
    """A row a figure: how often its interval held the truth, and how wide it was."""
    table = Bench(f"forecast: {pilots} pilots of {images} images, beside a run of the sample")
    recipe = sample_recipe()
    facts, costs, count = whole_run(recipe)
    truth = truth_of(facts, costs)
    told = []
    for seed in range(pilots):
        planned = forecast(recipe, run_pilot(recipe, images, seed), Target(count), load_prices(None), seed)
        told.append(figures_of(planned))
    for name, value in truth.items():
        spans = [each[name] for each in told]
        held = sum(value in span for span in spans)
        middle = sorted(span.value for span in spans)[len(spans) // 2]
        widest = sorted((span.high - span.low) / 2 for span in spans)[len(spans) // 2]
        table.row(
            name, f"{middle:.4g} ± {widest:.2g}", "the run", f"{value:.4g}", middle / value if value else 1.0,
        )  # fmt: skip
        table.row(f"{name}: held", f"{held} of {pilots}", "9 of 10", f"{0.9 * pilots:g}", held / pilots, least=0.9)
    return table
