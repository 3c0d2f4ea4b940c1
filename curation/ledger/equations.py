"""How far each step of a run is, and the equations that its numbers have to satisfy.

A step that is not finished cannot break an equation, unless it already holds more than it may.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from curation.ledger.model import Equation, Ledger, StepState
from curation.ledger.tables import among, distinct, repeated
from curation.run_directory.attempts import LOST


def steps_of(ledger: Ledger) -> list[StepState]:
    def step(name: str, done: bool, have: int, of: int | None = None, what: str = "images") -> StepState:
        return StepState(name, "done" if done else "partial" if have else "not yet", have, of, what)

    candidates = len(ledger.candidates.ids) if ledger.candidates else 0
    selected = len(ledger.selected) if ledger.selected is not None else 0
    tried = len(distinct(ledger.attempts.ids)) if ledger.attempts else 0
    taken = len(ledger.snapshot.ids) if ledger.snapshot else None
    decoded = len(ledger.images.ids) if ledger.images else 0
    verdicts = len(distinct(ledger.verdicts.ids)) if ledger.verdicts else 0
    undecided = int(ledger.verdicts.are("undecided").sum()) if ledger.verdicts else 0
    kept = np.union1d(ledger.kept, ledger.no_identity)
    annotated = int(among(kept, ledger.annotations.ids).sum()) if ledger.annotations else 0
    cut_done = verdicts > 0 and (ledger.run.exists(f"cuts/{ledger.cut}/funnel.json") or verdicts == taken)
    planned, written = len(ledger.shards.planned_shards), len(ledger.shards.sidecars)
    return [
        step("sources", bool(ledger.source_counts), candidates, None, "candidates"),
        step("select", bool(ledger.select_counts), selected, ledger.select_counts.get("selected")),
        step("fetch", ledger.snapshot is not None, tried, selected or None),
        step("score", taken is not None and decoded == taken and not undecided, decoded - undecided, taken),
        step("cut", cut_done, verdicts, taken),
        step("annotate", cut_done and len(kept) == annotated, annotated, len(kept)),
        step("pack", ledger.shards.plan is not None and planned == written, written, planned or None, "shards"),
    ]


def equations_of(ledger: Ledger) -> list[Equation]:
    found: list[Equation] = []

    def equal(name: str, left: int, terms: dict[str, int], finished: bool = True) -> None:
        right = sum(terms.values())
        holds = left == right if finished else (None if right <= left else False)
        found.append(Equation(name, left, right, holds, " + ".join(f"{n:,} {word}" for word, n in terms.items())))

    def unique(name: str, ids: np.ndarray | None) -> None:
        if ids is not None:
            equal(f"{name} are unique", len(ids), {"distinct": len(ids) - repeated(ids)})

    done = {step.name: step.state == "done" for step in ledger.steps}
    if ledger.source_counts:
        counts = ledger.source_counts
        dropped = {f"dropped ({reason})": n for reason, n in sorted((counts.get("dropped") or {}).items())}
        equal("source rows = merged + dropped", counts.get("rows", 0), {"merged": counts.get("merged", 0), **dropped})
    if ledger.candidates is not None:
        pool = ledger.candidates.ids
        unique("candidate ids", pool)
        if "candidates" in ledger.source_counts:
            equal("candidates counted = rows", ledger.source_counts["candidates"], {"rows": len(pool)})
        if ledger.selected is not None:
            rest = int((~among(pool, ledger.selected)).sum())
            terms = {"selected": len(ledger.selected), "not selected": rest}
            equal("candidates = selected + not selected", len(pool), terms)
    if ledger.selected is not None:
        unique("selected ids", ledger.selected)
        count = ledger.select_counts.get("selected", len(ledger.selected))
        equal("selected counted = rows", count, {"rows": len(ledger.selected)}, done["select"])
    _fetch_equations(ledger, equal, unique)
    if ledger.images is not None:
        terms = {"scored": ledger.scored, **{f"undecodable ({why})": n for why, n in ledger.undecodable.items()}}
        if ledger.verdicts is not None:  # a cut may come before the decode, but then it decides nothing
            pending = ledger.verdicts.ids[ledger.verdicts.are("undecided")]
            if waiting := int((~among(pending, ledger.images.ids)).sum()):
                terms["undecided, not decoded"] = waiting
        equal("taken = scored + undecodable", len(ledger.snapshot.ids), terms, done["score"] or done["cut"])
    if ledger.verdicts is not None:
        verdicts = ledger.verdicts
        unique("verdict ids", verdicts.ids)
        rejected = {f"rejected ({why})": n for why, n in ledger.rejected.items()}
        seen = ledger.images.ids if ledger.images else np.zeros(0, np.uint64)
        undecided = {"undecided": int(among(verdicts.ids[verdicts.are("undecided")], seen).sum())}
        terms = {"kept": len(ledger.kept), **rejected, **undecided}
        equal("scored = kept + rejected + undecided", ledger.scored, terms, done["cut"])
        bad = {"undecodable by the cut": int(verdicts.are("undecodable").sum())}
        equal("undecodable = undecodable by the cut", sum(ledger.undecodable.values()), bad, done["cut"])
    _pack_equations(ledger, equal, unique)
    return found


def _fetch_equations(ledger: Ledger, equal: Any, unique: Any) -> None:
    attempts, snapshot = ledger.attempts, ledger.snapshot
    if attempts is None or ledger.selected is None:
        return
    tried = distinct(attempts.ids)
    lost = attempts.errors.count(attempts.error[attempts.last() & ~attempts.success]).get(LOST, 0)
    silent = int((~among(ledger.selected, tried)).sum()) if snapshot else 0
    failed = {f"failed ({why})": n for why, n in ledger.failed.items()}
    terms = {"fetched": ledger.fetched, **failed, "lost": lost + silent}
    equal("selected = fetched + failed + lost", len(ledger.selected), terms, snapshot is not None)
    if snapshot is None:
        return
    counts = snapshot.counts
    unique("snapshot ids", snapshot.ids)
    # a healing that is under way has fetched more than the snapshot knows: some round must agree with it
    rounds = np.unique(attempts.rounds)
    by_round = [len(distinct(attempts.ids[attempts.success & (attempts.rounds <= last)])) for last in rounds]
    known = counts.get("fetched", 0)
    equal("fetched counted = successful", known, {"successful": known if known in by_round else ledger.fetched})
    rest = sum(n for why, n in (counts.get("failed") or {}).items() if why != LOST) + counts.get("lost", 0)
    terms = {"fetched": known, "failed and lost": rest}
    equal("selected = fetched + failed + lost, as counted", counts.get("selected", 0), terms)
    terms = {"taken": len(snapshot.ids), "surplus": counts.get("surplus", 0)}
    equal("fetched = taken + surplus", known, terms)
    came = distinct(attempts.ids[attempts.success])
    equal("taken were fetched", len(snapshot.ids), {"of them fetched": int(among(snapshot.ids, came).sum())})


def _pack_equations(ledger: Ledger, equal: Any, unique: Any) -> None:
    shards, done = ledger.shards, {step.name: step.state == "done" for step in ledger.steps}
    if ledger.listed is not None:
        ever = ledger.annotations.ids[ledger.annotations.ever_without]
        never = np.setdiff1d(ledger.annotations.ids[ledger.annotations.never_with], ledger.listed)
        unlisted = np.intersect1d(never, ledger.verdicts.ids[ledger.verdicts.are("kept")])
        terms = {"of them annotated so": int(among(ledger.listed, ever).sum()), "not listed": len(unlisted)}
        equal("no identity as listed = as annotated", len(ledger.listed), terms)
    if shards.plan is not None:
        unique("planned ids", shards.plan)
        equal("kept = planned", len(ledger.kept), {"planned": int(among(shards.plan, ledger.kept).sum())})
        stray = int((~among(shards.plan, ledger.kept)).sum())
        equal("planned were kept", len(shards.plan), {"kept": len(shards.plan) - stray})
    if not shards.sidecars:
        return
    unique("packed ids", shards.ids)
    packed = sum(sidecar["samples"] for sidecar in shards.sidecars)
    equal("packed samples = indexed", packed, {"indexed": sum(sidecar["indexed"] for sidecar in shards.sidecars)})
    # `forget` leaves holes in a shard and raises its revision; elsewhere a hole is a mistake
    holes = sum(
        shards.planned_shards.get(sidecar["shard"], sidecar["samples"]) - sidecar["samples"]
        for sidecar in shards.sidecars
        if sidecar.get("revision", 0)
    )
    terms = {"packed": packed, **({"forgotten": holes} if holes else {})}
    equal("kept = packed", len(ledger.kept), terms, done["pack"])
    equal("packed were kept", len(shards.ids), {"kept": int(among(shards.ids, ledger.kept).sum())})
