"""What each step takes of cores, GPUs and the clock: the start as the pilot's, the rest an image times the images.

Work of cores divides among the cores that there will be. A fetch mostly waits: how long its connections take for the
images is played through with the pilot's own waiting times.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

from curation.fetch.rounds import MANY
from curation.planning.meter import StepCost
from curation.planning.pilot import Pilot
from curation.planning.spans import Draws
from curation.progress.outlook import CORE_SECONDS
from curation.progress.state import DEFAULT, MEASURED
from curation.recipe.recipe import Recipe

# 90 % of the times that a start is done again lie within this share of it and so many seconds
AGAIN, SECONDS = 0.25, 1.5
PLAYED = 60  # parts of a fetch that are played through
FEW = 5  # times as many rows as the pilot must be looked at, for the difference to tell what a row takes


@dataclass(frozen=True)
class Target:
    """The machines of the run: `cores` and `gpus` of each of `nodes`."""

    cores: float
    nodes: int = 1
    gpus: float = 0.0

    @property
    def all_cores(self) -> float:
        return self.cores * self.nodes

    @property
    def all_gpus(self) -> float:
        return self.gpus * self.nodes


@dataclass(frozen=True)
class Cost:
    """Draws; None: nobody can know."""

    core_seconds: np.ndarray | None
    seconds: np.ndarray | None
    gpu_seconds: np.ndarray | None


class Costs:
    """What the steps of a recipe will take on the target's machines, by a pilot."""

    def __init__(self, recipe: Recipe, pilot: Pilot, target: Target, draws: Draws):
        self._recipe, self._pilot, self._target, self._draws = recipe, pilot, target, draws
        self._scale = pilot.cores / target.all_cores
        self._held: dict[str, float] = {}

    def of(self, step: str, images: np.ndarray) -> Cost:
        """Of a step with so many images; of select: rows of the sources; of fetch: attempts."""
        if step == "select":
            return self._select(images)
        cost = self._pilot.costs[step]
        if not cost.is_measured:
            return self._default(step, cost, images)
        core, clock = (self._an_image(cost, column) for column in (2, 1))
        self._held[step] = float(np.median(clock)) * self._pilot.cores
        # each process loads its models: with more cores there are more of them, at the same time
        work = self._start(cost.start(2, np.median(core))) / self._scale + core * images
        start = self._start(cost.start(1, np.median(clock)))
        if step == "fetch":
            return Cost(work, start + self._fetching(clock, images), self._draws.constant(0.0))
        if step == "score" and bool(self._target.all_gpus) != bool(self._pilot.gpus):
            return Cost(None, None, None)
        gpus = self._target.all_gpus if step == "score" else 0.0
        scale = self._pilot.gpus / gpus if gpus else self._scale
        seconds = start + clock * scale * images
        return Cost(work, seconds, seconds * gpus)

    def held(self, step: str) -> float | None:
        """Seconds of the clock an image, times the cores; None: of no image. Asked after `of`."""
        return self._held.get(step)

    def basis(self, step: str) -> str | None:
        """Whether the pilot measured it."""
        if step in CORE_SECONDS and not self._pilot.costs[step].is_measured:
            return DEFAULT
        return MEASURED

    def notes(self) -> list[str]:
        """What to know of these figures."""
        notes = []
        defaults = [step for step in CORE_SECONDS if self.basis(step) == DEFAULT]
        if defaults:
            notes.append(
                f"{', '.join(defaults)}: too few images in the pilot to tell an image's cost from the start's; core-seconds of the "
                "sample, a third to three times as much"
            )
        if not self._select_is_measured:
            notes.append("select: what a row takes was not measured; more rows than the pilot's would tell")
        if bool(self._target.all_gpus) != bool(self._pilot.gpus):
            had = f"{self._pilot.gpus:g} GPUs" if self._pilot.gpus else "no GPU"
            notes.append(
                f"score: unknown on {self._target.all_gpus:g} GPUs, as the pilot had {had}: plan on such a machine"
            )
        return notes

    def _an_image(self, cost: StepCost, column: int) -> np.ndarray:
        return np.maximum(1e-9, self._draws.ratio(cost.pieces[:, column], cost.pieces[:, 0]))

    def _start(self, seconds: float) -> np.ndarray:
        more_or_less = np.hypot(AGAIN * seconds, SECONDS) / 1.645
        return np.maximum(0.0, seconds + self._draws.spread(more_or_less))

    def _default(self, step: str, cost: StepCost, images: np.ndarray) -> Cost:
        an_image = self._draws.guess(CORE_SECONDS[step])
        self._held[step] = CORE_SECONDS[step]
        work = self._start(cost.core_seconds) + an_image * np.maximum(0.0, images - cost.images)
        seconds = self._start(cost.seconds) + an_image * np.maximum(0.0, images - cost.images) / self._target.all_cores
        return Cost(work, seconds, self._draws.constant(0.0))

    # -- select -------------------------------------------------------------------------------------------------------

    @property
    def _select_is_measured(self) -> bool:
        slices = self._pilot.slices
        return slices.seen == slices.rows or slices.seen >= FEW * self._pilot.faces

    def _select(self, rows: np.ndarray) -> Cost:
        look, small, slices = self._pilot.look, self._pilot.costs["select"], self._pilot.slices
        if not self._select_is_measured:
            return Cost(None, None, self._draws.constant(0.0))
        found = []
        for whole, part in ((look.core_seconds, small.core_seconds), (look.seconds, small.seconds)):
            a_row = max(0.0, whole - part) / max(1, slices.seen - self._pilot.faces)
            found.append(self._start(whole) + self._draws.guess(a_row) * np.maximum(0.0, rows - slices.seen))
        more = found[1] - self._start(look.seconds)
        return Cost(found[0], np.maximum(0.0, found[1] - more + more * self._scale), self._draws.constant(0.0))

    # -- fetch --------------------------------------------------------------------------------------------------------

    def _fetching(self, clock: np.ndarray, attempts: np.ndarray) -> np.ndarray:
        """Seconds of the clock: waiting with as many connections as the recipe has, and what the pilot took beyond that."""
        settings, pilot = self._recipe.fetch, self._pilot
        waits = pilot.facts.seconds[pilot.facts.attempts > 0] / pilot.facts.attempts[pilot.facts.attempts > 0]
        waited = self._part(waits, pilot.part_size, settings.threads).mean() / pilot.part_size / pilot.cores
        beyond = np.maximum(0.0, clock - waited) * self._scale
        tasks = self._target.all_cores * np.where(attempts >= MANY, 2, 1)
        parts = np.ceil(attempts / settings.part_size)
        turns = np.maximum(parts / tasks, 1.0)
        played = self._part(waits, int(min(settings.part_size, np.median(attempts))), settings.threads)
        return turns * self._draws.of_mean(played) + beyond * attempts

    def _part(self, waits: np.ndarray, images: int, threads: int) -> np.ndarray:
        """Seconds of parts of so many images, whose waiting times are drawn from these."""
        ends = []
        for _ in range(PLAYED):
            free = [0.0] * threads
            for wait in self._draws.resample(waits, images):
                heapq.heappushpop(free, free[0] + wait)
            ends.append(max(free))
        return np.array(ends)
