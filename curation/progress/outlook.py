"""What the steps that have not begun will take: how many images each has, and how long one takes it, where that is known.

Nothing is made up: an image count that is not known yet is the most that it can be, and is said to be; a step whose speed
nobody knows has none.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import ray

from curation.cutting.cut import read_funnel
from curation.progress.state import DEFAULT, FORECAST_RATE
from curation.run_directory.candidates import SELECTED_COUNTS, selected_counts
from curation.run_directory.run import Run
from curation.run_directory.snapshot import latest_counts

FORECAST = "forecast.json"  # of the run directory: what `make plan RUN=...` expects of it
# core-seconds an image where nothing better is known: `make plan` of the sample and, of cut and pack, `make bench
# ONLY=rehearsal`, 2 x86-64 cores. Fetching depends on the web, selecting on the tables: of these there is no default
CORE_SECONDS = {"score": 0.07, "cut": 1e-5, "annotate": 0.09, "pack": 0.001}


@dataclass(frozen=True)
class Expected:
    """Of one step: `images`, None: not known; `at_most`: they are an upper bound; `seconds` an image, None: not known;
    `basis`: whose figure that is."""

    images: int | None = None
    at_most: bool = False
    seconds: float | None = None
    basis: str | None = None


@dataclass
class Outlook:
    """What a run has told so far, and what its forecast says of the rest. Read anew after every step."""

    run: Run
    name: str
    counts: dict[str, int] = field(default_factory=dict)
    forecast: dict[str, tuple[float, float | None]] = field(default_factory=dict)  # images, core-seconds of one

    def read(self) -> None:
        """Look again: a few small files, of which a forecast that a person changed may hold anything."""
        if self.run.exists(SELECTED_COUNTS):
            selected = selected_counts(self.run)
            self.counts |= {"selected": selected["selected"], "wanted": selected["wanted"]}
        if taken := latest_counts(self.run):
            self.counts["taken"] = taken["taken"]
        if funnel := read_funnel(self.run, self.name):
            self.counts["kept"] = funnel["kept"]
        if not self.forecast and self.run.exists(FORECAST):
            self.forecast = dict(map(_told, self.run.read_json(FORECAST, ("steps",))["steps"]))

    def of(self, step: str, kept_is_final: bool) -> Expected:
        """Of a step that has not begun. `kept_is_final`: the cut is made, and the step comes after it."""
        images, at_most = self._images(step, kept_is_final)
        (_, cost), basis = self.forecast.get(step, (0.0, None)), FORECAST_RATE
        if cost is None:
            cost, basis = CORE_SECONDS.get(step), DEFAULT
        if cost is None:
            return Expected(images, at_most)
        return Expected(images, at_most, cost / cores(), basis)

    def _images(self, step: str, kept_is_final: bool) -> tuple[int | None, bool]:
        selected, taken, kept = (self.counts.get(name) for name in ("selected", "taken", "kept"))
        if step == "select":
            return None, False
        if step == "fetch":
            return selected, False
        at_most = False
        if taken is None and selected is not None:
            share = self._share("score", "select")
            taken, at_most = (round(selected * share), False) if share else (min(selected, self.counts["wanted"]), True)
        if step in ("score", "cut") or taken is None:
            return taken, at_most
        if kept is not None and kept_is_final:
            return kept, False
        share = self._share("annotate", "score")
        return (round(taken * share), at_most) if share else (taken, True)

    def _share(self, step: str, before: str) -> float | None:
        """Images of a step as a share of those of an earlier one, by the forecast."""
        if step not in self.forecast or before not in self.forecast:
            return None
        return self.forecast[step][0] / max(1.0, self.forecast[before][0])


def _told(step: dict[str, Any]) -> tuple[str, tuple[float, float | None]]:
    cost = step["held_core_seconds_an_image"]
    return str(step["step"]), (float(step["images"]["value"]), None if cost is None else float(cost))


def cores() -> float:
    """Of the cluster that this process works on, or of this machine."""
    if ray.is_initialized():
        return max(1.0, ray.cluster_resources().get("CPU", 1.0))
    return float(os.cpu_count() or 1)
