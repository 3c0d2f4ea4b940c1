"""The numbers of a run: how far each step is, what the tables hold, and which numbers have to be equal."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from common.errors import UserError
from curation.filters.registry import Thresholds, check_names
from curation.ledger.tables import Tables
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


@dataclass(frozen=True)
class Shard:
    """What the sidecar of a finished shard says; `there`: bytes that its tar has; `indexed`: the samples that its index
    lists."""

    number: int
    samples: int
    bytes: int
    there: int
    revision: int
    indexed: int


@dataclass(frozen=True)
class OtherCut:
    """A cut of the same images beside the ledger's own; its verdicts are the table `other_verdicts`."""

    name: str
    checks: tuple[str, ...]
    thresholds: Thresholds
    fingerprints: dict[str, str]


@dataclass
class Ledger:
    """Everything that a run holds so far, ready for counting."""

    run: Run
    manifest: dict[str, Any]
    cut: str
    tables: Tables = field(default_factory=Tables)
    thresholds: Thresholds = field(default_factory=Thresholds)
    fingerprints: dict[str, str] = field(default_factory=dict)
    content_hash: str = ""
    detector: str = "yolov5-face"  # that made the faces evidence of this cut: thresholds are its own
    source_counts: dict[str, Any] = field(default_factory=dict)
    select_counts: dict[str, Any] = field(default_factory=dict)
    snapshot: dict[str, Any] | None = None  # the counts beside the snapshot
    cut_is_whole: bool = False  # a cut came to its end; there may be scores that it did not have
    cut_checks: tuple[str, ...] | None = None  # that the cut made, in the paper's order
    other: OtherCut | None = None  # that is compared with this one
    shards: list[Shard] = field(default_factory=list)
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
        if self.cut_checks is not None:
            return self.cut_checks
        filters = self.recipe.get("filters") or {}
        return check_names(name for name, settings in filters.items() if settings is not None)

    def step(self, name: str) -> StepState:
        return next(step for step in self.steps if step.name == name)

    def has(self, table: str) -> bool:
        """Whether the run has that table yet."""
        return table in self.tables.present

    @cached_property
    def kept(self) -> np.ndarray:
        """uint64: the ids that are kept, those without an identity left out."""
        return self.tables.ids("kept")

    @cached_property
    def no_identity(self) -> np.ndarray:
        return self.tables.ids("no_identity")

    @cached_property
    def planned_samples(self) -> dict[int, int]:
        """{shard: samples that the plan gives it}"""
        return dict(self.tables.rows("SELECT shard, count(*) FROM planned GROUP BY 1"))

    @cached_property
    def failed(self) -> dict[str, int]:
        """{class: images} of what was tried and never came, lost ones apart."""
        return {name: n for name, n in self.tables.counts("error", "outcomes").items() if name != LOST}

    @cached_property
    def fetched(self) -> int:
        return self.tables.size("outcomes WHERE came_in IS NOT NULL")

    @cached_property
    def undecodable(self) -> dict[str, int]:
        """{why: images}"""
        return self.tables.counts("status", "images WHERE status != 'ok'")

    @cached_property
    def scored(self) -> int:
        return self.tables.size("images WHERE status = 'ok'")

    @cached_property
    def rejected(self) -> dict[str, int]:
        """{reason: images}, `no_identity` among them."""
        counts = Counter(self.tables.counts("reason", "verdicts WHERE verdict = 'rejected'"))
        return dict(counts + Counter({"no_identity": len(self.no_identity)}))
