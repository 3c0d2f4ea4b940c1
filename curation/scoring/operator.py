"""The scoring operator: what one actor of Ray Data does with one unit. A plain callable: Ray is only its host.

An operator is a group of filters on the same device, sharing one decode. It reads its unit's bytes itself, so neither
bytes nor pixels enter the object store. What it learns it writes to the run, whole and once.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from common.cluster.pools import threads_of
from common.cluster.shipped import ShippedWeights
from common.cluster.work import this_node
from common.decode import Picture
from common.failures.transient import counting_retries, patiently
from common.storage import json_bytes
from curation.cutting.audit import audited
from curation.cutting.judge import judge
from curation.filters.base import Filter, FilterBroken, MetadataFilter
from curation.filters.registry import Thresholds
from curation.recipe.recipe import Recipe
from curation.run_directory.run import Run
from curation.run_directory.unit_bytes import UnitBytes
from curation.run_directory.units import Unit, UnitScores
from curation.scoring.batch import empty_row
from curation.scoring.careful import Blame, Watch, alarm, run_in_children
from curation.scoring.order import Costs, cheapest_order
from curation.scoring.spending import Spending, core_seconds
from curation.scoring.threads import Threads
from curation.scoring.unit_in_work import UnitInWork


class ScoringOperator:
    """One operator: scores units with some of the filters. A plain callable: Ray is only its host.

    Raises:
        FilterBroken: this machine's model files are not the driver's, or one of them cannot run.
    """

    def __init__(
        self, run: Run, recipe: Recipe, names: Sequence[str], fingerprints: dict[str, str], audit: int, device: str,
        shipped: ShippedWeights | None = None, watch: Watch | None = None, blame: Blame | None = None,
    ):  # fmt: skip
        """`watch(stage, ids)` is around the decoding of an image, and around each filter. `blame`: what ended a worker
        twice, which is not tried again. Both are a child's (careful.py)."""
        # Ray Data and `map_with_actors` derive classes of their own, which no other process knows
        derived = "ray.", "common.cluster."
        kind = next(kind for kind in type(self).__mro__ if not kind.__module__.startswith(derived))
        self._again = partial(kind, run, recipe, names, fingerprints, audit, device)
        self.watch, self.blame = watch or alarm, blame or {}
        self._is_child = watch is not None
        self.run, self.recipe, self.names, self.audit = run, recipe, list(names), audit
        if shipped is not None:
            shipped.place(recipe.weights)
        self.filters = recipe.open_filters(device)
        self.node, self.machine = this_node()
        mine = {name: item.fingerprint for name, item in self.filters.items()}
        if mine != fingerprints:
            wrong = ", ".join(name for name in mine if mine[name] != fingerprints[name])
            raise FilterBroken(
                f"on {self.node} the model files or the libraries of {wrong} differ from the driver's: give "
                "every node the same environment and the same folder of weights (FACEMAKEUP_WEIGHTS)"
            )
        count = threads_of(self.machine, recipe.score.actors_a_gpu) if device == "gpu" and not self._is_child else 1
        self.threads = Threads(count, lambda: recipe.open_filters(device))
        self._warm_up()
        self.costs = Costs(self.names)

    def _warm_up(self) -> None:
        """Run every model once, on grey: what is wrong with a model or a device is no image's fault."""
        picture = Picture(np.full((64, 64, 3), 128, np.uint8), 64, 64, 1, "jpeg")
        seen: dict[str, pa.Table] = {}
        for name in sorted(self.names, key=lambda name: len(self.filters[name].needs)):
            item = self.filters[name]
            if isinstance(item, MetadataFilter):
                continue
            empty = {need: seen.get(need, empty_row(self.filters[need])) for need in item.needs}
            seen[name] = item.score([picture], empty)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Score what is missing of one unit; returns the unit, with counts, for the next operator or the driver.

        What fails for the world's reasons (a store, memory) is done again: it says nothing about an image.
        """
        if self._is_child:
            return self._score_unit(row)
        began = core_seconds()
        scored, retried = counting_retries(patiently(self._score_unit), row)
        spent = Spending.of_row(scored)
        spent.core_seconds += core_seconds() - began
        return {**scored, **spent.as_column(), "node": self.node, "retried": scored.get("retried", 0) + retried}

    def _score_unit(self, row: dict[str, Any]) -> dict[str, Any]:
        unit = Unit.of_row(row)
        known = UnitScores(self.run, unit, self.filters)
        audit_lane = audited(known.ids, self.recipe.seed, self.audit)
        todo = unresolved(known, self.filters, self.names, self.recipe.thresholds, audit_lane)
        spent = Spending.of_row(row)
        if todo.any():
            order, begun = self._order(known)
            if begun and not self._is_child:
                # the worker that had begun it is gone: so this is another try
                return run_in_children(self._again, {**row, "retried": row.get("retried", 0) + 1})
            with UnitBytes(self.run, unit.tar, known.fetched, np.flatnonzero(todo)) as data:
                work = UnitInWork(self, known, data, order, audit_lane)
                size = 1 if self._is_child else self.recipe.score.batch
                try:
                    for row_in_tar, decoded in self.threads.ahead(
                        data.in_tar_order, work.decoded, size, work.make_room
                    ):
                        work.take(row_in_tar, *decoded(), size)
                    work.score_batch()
                finally:
                    work.allowance.end()
            # the next operator has to know of it
            row = {**row, "scores": json.dumps([*unit.scores, work.write()])}
            spent.update(work.spent)
        return {
            **row,
            **spent.as_column(),
            "node": self.node,
            "done_before": row.get("done_before", len(known.ids) - int(todo.sum())),
        }

    def _order(self, known: UnitScores) -> tuple[list[str], bool]:
        """The order for this unit, and whether it had been begun before.

        The order is written down before anything is scored, under what was known until then. If it is there and no more
        is known, whoever wrote it did not come to the end: perhaps an image ended that worker.
        """
        stored = sum(int(known.evidence[name].seen.sum()) for name in self.names)
        path = f"scores/order/{known.name}-{'-'.join(sorted(self.names))}-{stored}.json"
        paper = [name for name in self.filters if name in self.names]
        needs = {name: self.filters[name].needs for name in self.names}
        order = paper if self.recipe.score.order == "paper" else cheapest_order(self.costs, needs, paper)
        mine = {"order": order, "estimates": self.costs.as_dict(), "token": uuid.uuid4().hex}  # two must never be equal
        if self.run.write_new(path, json_bytes(mine)):
            return order, False
        return self.run.read_json(path, ("order",))["order"], True


def unresolved(
    known: UnitScores, filters: dict[str, Filter], names: Sequence[str], thresholds: Thresholds, audit: np.ndarray
) -> np.ndarray:
    """bool (rows,): images that the filters `names` still have something to do for; `audit`: the audited ones."""
    judged = judge(known.evidence, filters, thresholds, known.boxes)
    lacking = np.any([~known.evidence[name].seen for name in names], axis=0)
    decoded = np.array([text in (None, "ok") for text in known.status], dtype=bool)
    never = np.array([text is None for text in known.status], dtype=bool)
    return decoded & (never | ((judged.undecided | audit) & lacking))
