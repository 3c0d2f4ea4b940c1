"""From a pilot to the whole run: images, GB, hours and their price, step by step, each with its interval."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from curation.pipeline import STEPS
from curation.planning.costs import Costs, Target
from curation.planning.pilot import Pilot, population
from curation.planning.prices import Prices
from curation.planning.spans import Draws, Span
from curation.planning.yields import Yields, yields_of
from curation.recipe.recipe import Recipe

HOUR, GB = 3600.0, 1e9


@dataclass(frozen=True)
class StepForecast:
    """Of a step, or of `all`: images that come out of it (of select and fetch), else that go in; GB read, fetched or
    written; core-hours of work; hours by the clock; None where nobody can know. `held_core_seconds_an_image`: what an image takes of the
    clock, times the cores; `basis`: whose figure that is."""

    step: str
    images: Span | None = None
    gigabytes: Span | None = None
    core_hours: Span | None = None
    gpu_hours: Span | None = None
    hours: Span | None = None
    dollars: Span | None = None
    held_core_seconds_an_image: float | None = None
    basis: str | None = None


@dataclass(frozen=True)
class Forecast:
    """`living`: share of links that give an image; `neck`: the step that takes the most hours; `selection`: what the sort by
    resolution will do; `notes`: what to know of the figures."""

    recipe: str
    seed: int
    pilot_images: int
    target: Target
    prices: Prices
    candidates: Span
    living: Span
    steps: tuple[StepForecast, ...]
    whole: StepForecast
    neck: str
    selection: str
    notes: tuple[str, ...]

    def of(self, step: str) -> StepForecast:
        return next(each for each in self.steps if each.step == step)


def forecast(recipe: Recipe, pilot: Pilot, target: Target, prices: Prices, seed: int) -> Forecast:
    """What to expect of the recipe on the target machines."""
    draws = Draws(seed)
    candidates = _candidates(pilot, draws)
    selected, wanted = _selected(recipe, candidates)
    found = yields_of(pilot.facts, selected, wanted, draws)
    costs = Costs(recipe, pilot, target, draws)
    images = {
        "select": found.selected, "fetch": found.fetched, "score": found.taken, "cut": found.taken,
        "annotate": found.kept, "pack": found.packed,
    }  # fmt: skip
    sizes = {
        "select": draws.constant(pilot.slices.bytes), "fetch": found.came, "score": found.size,
        "annotate": found.kept_size, "pack": found.samples,
    }  # fmt: skip
    work = {**images, "select": draws.constant(pilot.slices.rows), "fetch": found.attempts}
    rows: dict[str, dict[str, np.ndarray | None]] = {}
    for step in STEPS:
        cost = costs.of(step, work[step])
        row: dict[str, np.ndarray | None] = {
            "images": images[step],
            "gigabytes": None if step not in sizes else sizes[step] / GB,
            "core_hours": None if cost.core_seconds is None else cost.core_seconds / HOUR,
            "gpu_hours": None if cost.gpu_seconds is None else cost.gpu_seconds / HOUR,
            "hours": None if cost.seconds is None else cost.seconds / HOUR,
        }
        rows[step] = {**row, "dollars": _dollars(step, row, found, target, prices)}
    steps = tuple(
        StepForecast(
            step,
            **{name: None if values is None else Span.of(values) for name, values in rows[step].items()},
            held_core_seconds_an_image=costs.held(step),
            basis=costs.basis(step),
        )
        for step in STEPS
    )
    known = [step for step in steps if step.hours is not None]
    neck = max(known, key=lambda step: step.hours.value if step.hours else 0.0).step
    return Forecast(
        recipe=recipe.name,
        seed=seed,
        pilot_images=len(pilot.facts),
        target=target,
        prices=prices,
        candidates=Span.of(candidates),
        living=Span.of(found.living),
        steps=steps,
        whole=_whole(rows),
        neck=neck,
        selection=_selection(recipe, candidates, found, wanted),
        notes=(*_notes(recipe, pilot), *costs.notes()),
    )


def _candidates(pilot: Pilot, draws: Draws) -> np.ndarray:
    faces = pilot.slices.facecaption
    if faces.is_whole:
        return draws.constant(pilot.candidates)
    images = pilot.overlap.whole(faces.rows, draws.weights(len(pilot.overlap.rows)))
    return np.maximum(1.0, images * draws.share(pilot.candidates, max(pilot.candidates, pilot.overlap.distinct)))


def _selected(recipe: Recipe, candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Draws of how many images are fetched, and how many are taken of these; None: all."""
    select = recipe.select
    wanted = np.floor(candidates * select.fraction) if select.fraction else np.minimum(select.count or 0, candidates)
    if select.rank_over == "metadata":
        return wanted, None
    return np.minimum(candidates, np.ceil(np.round(wanted * select.overprovision, 6))), wanted


def _dollars(
    step: str, row: dict[str, np.ndarray | None], found: Yields, target: Target, prices: Prices
) -> np.ndarray | None:
    """Cores are paid while a step has them, busy or not; what is kept, in the row of the step that writes it."""
    hours, gpu_hours = row["hours"], row["gpu_hours"]
    if hours is None or gpu_hours is None:
        return None
    paid = hours * target.all_cores * prices.core_hour + gpu_hours * prices.gpu_hour
    kept = prices.storage_gb_month * prices.months / GB
    if step == "fetch":
        paid = paid + found.came / GB * prices.download_gb + found.stored * kept
    if step == "pack":
        paid = paid + found.samples * (kept + prices.egress_gb / GB)
    return paid


def _whole(rows: dict[str, dict[str, np.ndarray | None]]) -> StepForecast:
    """The sums; of images none, since the steps have the same."""

    def total(name: str) -> Span | None:
        columns = [row[name] for row in rows.values()]
        known = [column for column in columns if column is not None]
        return Span.of(np.sum(known, axis=0)) if len(known) == len(columns) else None

    names = {each.name for each in fields(StepForecast)} & {"core_hours", "gpu_hours", "hours", "dollars"}
    return StepForecast("all", **{name: total(name) for name in names})


def _about(draws: np.ndarray) -> str:
    """A count as far as it is known: in three digits where it is an estimate."""
    value = float(np.median(draws))
    return f"{value if draws.std() == 0 else float(f'{value:.3g}'):,.0f}"


def _selection(recipe: Recipe, candidates: np.ndarray, found: Yields, wanted: np.ndarray | None) -> str:
    """What the resolution sort does, by the share of links that live."""
    share = f"{np.median(found.living):.0%} of the links live"
    if wanted is None:
        return (
            f"The resolution sort takes {_about(found.selected)} of {_about(candidates)} candidates, living or not; {share}, so "
            f"{_about(found.taken)} are left (select.rank_over: available would fill up from the next ones)"
        )
    all_living = candidates * found.living
    never, surely = float(np.mean(all_living <= wanted)), float(np.mean(found.fetched > wanted))
    if never > 0.5:
        return (
            f"The resolution sort selects nothing away: {share}, {_about(all_living)} of all {_about(candidates)} candidates, and the "
            f"recipe wants {_about(wanted)}. Whatever lives is taken, large or small ({never:.0%} sure)"
        )
    if surely < 0.5:
        return (
            f"{share}: of {_about(found.selected)} that are fetched {_about(found.fetched)} come, fewer than the "
            f"{_about(wanted)} wanted, though there are more candidates: raise select.overprovision to "
            f"{np.median(1 / found.living) * 1.02:.2f}"
        )
    return (
        f"The resolution sort keeps {_about(wanted)} of {_about(all_living)} living candidates ({share}); {surely:.0%} sure that "
        "as many come"
    )


def _notes(recipe: Recipe, pilot: Pilot) -> list[str]:
    notes = []
    if recipe.select.key.startswith("image_"):
        notes.append(
            f"select.key {recipe.select.key} needs LAION-Face joined, which a pilot does not do: its images are a random part of "
            "all candidates, not of the largest"
        )
    if not pilot.slices.facecaption.is_whole:
        known = population(pilot.slices, pilot.overlap, pilot.candidates)
        notes.append(
            f"About {known:,.0f} candidates, by {pilot.slices.facecaption.seen:,} rows of {pilot.slices.facecaption.rows:,}"
        )
    if len(pilot.facts) >= pilot.eligible:
        notes.append("The pilot had every image that its rows give")
    return notes
