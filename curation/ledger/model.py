"""The numbers of a run: how far each step is, what the tables hold, and which numbers have to be equal."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from common.errors import UserError
from curation.filters.registry import Thresholds, check_names
from curation.ledger import cut_tables, tables
from curation.run_directory.attempts import LOST
from curation.run_directory.run import Run


class RunNotFound(UserError, LookupError):
    """There is no such run, or no such cut in it; the message says what there is."""


@dataclass(frozen=True)
class Equation:
    """Two numbers that have to be equal. `holds` is None while a step that one of them needs is not finished."""

    name: str
    left: int
    right: int
    holds: bool | None
    terms: str = ""


@dataclass(frozen=True)
class StepState:
    """How far one of the steps is: it holds `have` of `of` images, or of what `what` says."""

    name: str
    state: str  # "done", "partial", "not yet"
    have: int = 0
    of: int | None = None
    what: str = "images"


@dataclass
class Ledger:
    """Everything that a run holds so far, ready for counting."""

    run: Run
    manifest: dict[str, Any]
    cut: str
    thresholds: Thresholds = field(default_factory=Thresholds)
    fingerprints: dict[str, str] = field(default_factory=dict)
    content_hash: str = ""
    detector: str = "yolov5-face"  # that made the faces evidence of this cut: thresholds are its own
    source_counts: dict[str, Any] = field(default_factory=dict)
    select_counts: dict[str, Any] = field(default_factory=dict)
    candidates: tables.Candidates | None = None
    selected: np.ndarray | None = None
    attempts: tables.Attempts | None = None
    snapshot: tables.Snapshot | None = None
    images: tables.Images | None = None
    verdicts: cut_tables.Verdicts | None = None
    annotations: cut_tables.Annotations | None = None
    shards: cut_tables.Shards = field(default_factory=lambda: cut_tables.Shards(None))
    kept: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))  # after `no_identity`
    listed: np.ndarray | None = None  # without an identity, as the plan says
    no_identity: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))
    steps: list[StepState] = field(default_factory=list)
    equations: list[Equation] = field(default_factory=list)

    @property
    def broken(self) -> list[Equation]:
        return [equation for equation in self.equations if equation.holds is False]

    @property
    def reconciles(self) -> bool:
        return not self.broken

    @property
    def recipe(self) -> dict[str, Any]:
        return self.manifest.get("recipe") or {}

    @property
    def checks(self) -> tuple[str, ...]:
        """The checks of this cut, in the paper's order; before there is one, those that its recipe asks for."""
        if self.verdicts is not None:
            return self.verdicts.names
        filters = self.recipe.get("filters") or {}
        return check_names(name for name, settings in filters.items() if settings is not None)

    def step(self, name: str) -> StepState:
        return next(step for step in self.steps if step.name == name)

    @property
    def failed(self) -> dict[str, int]:
        """{class: images} of what was tried and never came, lost ones apart."""
        if self.attempts is None:
            return {}
        last = self.attempts.last() & ~self.attempts.success
        return {name: n for name, n in self.attempts.errors.count(self.attempts.error[last]).items() if name != LOST}

    @property
    def fetched(self) -> int:
        return len(tables.distinct(self.attempts.ids[self.attempts.success])) if self.attempts is not None else 0

    @property
    def undecodable(self) -> dict[str, int]:
        if self.images is None:
            return {}
        return {name: n for name, n in self.images.statuses.count(self.images.status).items() if name != "ok"}

    @property
    def scored(self) -> int:
        return int((self.images.status == 0).sum()) if self.images is not None else 0

    @property
    def rejected(self) -> dict[str, int]:
        """{reason: images}, `no_identity` among them."""
        if self.verdicts is None:
            return {}
        counts = Counter(self.verdicts.reasons.count(self.verdicts.reason[self.verdicts.are("rejected")]))
        return dict(counts + Counter({"no_identity": len(self.no_identity)}))
