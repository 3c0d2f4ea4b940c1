"""How far each step of a run is, and the equations that its numbers have to satisfy.

A step that is not finished cannot break an equation, unless it already holds more than it may.
"""

from __future__ import annotations

from collections.abc import Iterator

from curation.ledger.model import Equation, Ledger, StepState
from curation.ledger.tables import Tables
from curation.run_directory.attempts import LOST


def steps_of(ledger: Ledger) -> list[StepState]:
    def step(name: str, done: bool, have: int, of: int | None = None, what: str = "images") -> StepState:
        return StepState(name, "done" if done else "partial" if have else "not yet", have, of, what)

    tables = ledger.tables
    selected = tables.size("selected")
    taken = tables.size("taken") if ledger.snapshot else None
    decoded, verdicts = tables.size("images"), tables.distinct("verdicts")
    undecided = tables.size("verdicts WHERE verdict = 'undecided'")
    kept = len(ledger.kept) + len(ledger.no_identity)
    annotated = tables.shared("(FROM kept UNION ALL FROM no_identity)", "annotations")
    cut_done = verdicts > 0 and (ledger.cut_is_whole or verdicts == taken)
    planned, written = tables.number("SELECT count(DISTINCT shard) FROM planned"), len(ledger.shards)
    return [
        step("sources", bool(ledger.source_counts), tables.size("candidates"), None, "candidates"),
        step("select", bool(ledger.select_counts), selected, ledger.select_counts.get("selected")),
        step("fetch", ledger.snapshot is not None, tables.size("outcomes"), selected or None),
        step("score", taken is not None and decoded == taken and not undecided, decoded - undecided, taken),
        step("cut", cut_done, verdicts, taken),
        step("annotate", cut_done and kept == annotated, annotated, kept),
        step("pack", ledger.has("planned") and planned == written, written, planned or None, "shards"),
    ]


def equations_of(ledger: Ledger) -> list[Equation]:
    return [
        *_source_equations(ledger),
        *_select_equations(ledger),
        *_fetch_equations(ledger),
        *_score_equations(ledger),
        *_cut_equations(ledger),
        *_pack_equations(ledger),
    ]


def _equation(name: str, left: int, terms: dict[str, int], finished: bool = True) -> Equation:
    """`left` has to be the sum of the `terms`; while a step is not `finished`, it only must not be less."""
    right = sum(terms.values())
    holds = left == right if finished else (None if right <= left else False)
    return Equation(name, left, right, holds, " + ".join(f"{number:,} {term}" for term, number in terms.items()))


def _unique(tables: Tables, table: str, what: str) -> Equation:
    return _equation(f"{what} ids are unique", tables.size(table), {"distinct": tables.distinct(table)})


def _done(ledger: Ledger, step: str) -> bool:
    return ledger.step(step).state == "done"


def _source_equations(ledger: Ledger) -> Iterator[Equation]:
    counts, tables = ledger.source_counts, ledger.tables
    if counts:
        dropped = {f"dropped ({reason})": n for reason, n in sorted((counts.get("dropped") or {}).items())}
        terms = {"merged": counts.get("merged", 0), **dropped}
        yield _equation("source rows = merged + dropped", counts.get("rows", 0), terms)
    if ledger.has("candidates"):
        yield _unique(tables, "candidates", "candidate")
        if "candidates" in counts:
            rows = {"rows": tables.size("candidates")}
            yield _equation("candidates counted = rows", counts["candidates"], rows)


def _select_equations(ledger: Ledger) -> Iterator[Equation]:
    tables = ledger.tables
    if not ledger.has("selected"):
        return
    selected = tables.size("selected")
    if ledger.has("candidates"):
        candidates = tables.size("candidates")
        terms = {"selected": selected, "not selected": candidates - tables.shared("candidates", "selected")}
        yield _equation("candidates = selected + not selected", candidates, terms)
    yield _unique(tables, "selected", "selected")
    counted = ledger.select_counts.get("selected", selected)
    yield _equation("selected counted = rows", counted, {"rows": selected}, _done(ledger, "select"))


def _fetch_equations(ledger: Ledger) -> Iterator[Equation]:
    tables, counts = ledger.tables, ledger.snapshot
    if not (ledger.has("attempts") and ledger.has("selected")):
        return
    selected = tables.size("selected")
    lost = tables.size(f"outcomes WHERE error = '{LOST}'")
    never_tried = selected - tables.shared("selected", "outcomes") if counts else 0
    failed = {f"failed ({why})": n for why, n in ledger.failed.items()}
    terms = {"fetched": ledger.fetched, **failed, "lost": lost + never_tried}
    yield _equation("selected = fetched + failed + lost", selected, terms, counts is not None)
    if counts is None:
        return
    yield _unique(tables, "taken", "snapshot")
    # a healing that is under way has fetched more than the snapshot knows: some round must agree with it
    by_round = tables.rows("""
        SELECT sum(count(o.id)) OVER (ORDER BY r.round)
        FROM rounds r LEFT JOIN outcomes o ON o.came_in = r.round GROUP BY r.round""")
    fetched, taken = counts.get("fetched", 0), tables.size("taken")
    successful = fetched if (fetched,) in by_round else ledger.fetched
    yield _equation("fetched counted = successful", fetched, {"successful": successful})
    rest = sum(n for why, n in (counts.get("failed") or {}).items() if why != LOST) + counts.get("lost", 0)
    terms = {"fetched": fetched, "failed and lost": rest}
    yield _equation("selected = fetched + failed + lost, as counted", counts.get("selected", 0), terms)
    yield _equation("fetched = taken + surplus", fetched, {"taken": taken, "surplus": counts.get("surplus", 0)})
    really = tables.shared("taken", "(FROM outcomes WHERE came_in IS NOT NULL)")
    yield _equation("taken were fetched", taken, {"of them fetched": really})


def _score_equations(ledger: Ledger) -> Iterator[Equation]:
    tables = ledger.tables
    if not ledger.has("images"):
        return
    terms = {"scored": ledger.scored, **{f"undecodable ({why})": n for why, n in ledger.undecodable.items()}}
    # a cut may come before the decode, but then it decides nothing
    waiting = tables.size("verdicts ANTI JOIN images USING (id) WHERE verdict = 'undecided'")
    if waiting:
        terms["undecided, not decoded"] = waiting
    finished = _done(ledger, "score") or _done(ledger, "cut")
    yield _equation("taken = scored + undecodable", tables.size("taken"), terms, finished)


def _cut_equations(ledger: Ledger) -> Iterator[Equation]:
    tables, done = ledger.tables, _done(ledger, "cut")
    if not ledger.has("verdicts"):
        return
    yield _unique(tables, "verdicts", "verdict")
    rejected = {f"rejected ({why})": n for why, n in ledger.rejected.items()}
    undecided = tables.shared("(FROM verdicts WHERE verdict = 'undecided')", "images")
    terms = {"kept": len(ledger.kept), **rejected, "undecided": undecided}
    yield _equation("scored = kept + rejected + undecided", ledger.scored, terms, done)
    by_the_cut = {"undecodable by the cut": tables.size("verdicts WHERE verdict = 'undecodable'")}
    undecodable = sum(ledger.undecodable.values())
    yield _equation("undecodable = undecodable by the cut", undecodable, by_the_cut, done)


def _pack_equations(ledger: Ledger) -> Iterator[Equation]:
    tables, kept = ledger.tables, len(ledger.kept)
    if ledger.has("listed"):
        annotated = "(SELECT id FROM annotations GROUP BY id HAVING {}(without_identity))".format
        unlisted = tables.size(f"""
            {annotated("bool_and")} ANTI JOIN listed USING (id)
            SEMI JOIN (FROM verdicts WHERE verdict = 'kept') USING (id)""")
        terms = {"of them annotated so": tables.shared("listed", annotated("bool_or")), "not listed": unlisted}
        yield _equation("no identity as listed = as annotated", tables.size("listed"), terms)
    if ledger.has("planned"):
        planned, planned_and_kept = tables.size("planned"), tables.shared("planned", "kept")
        yield _unique(tables, "planned", "planned")
        yield _equation("kept = planned", kept, {"planned": planned_and_kept})
        yield _equation("planned were kept", planned, {"kept": planned_and_kept})
    if not ledger.shards:
        return
    yield _unique(tables, "packed", "packed")
    packed = sum(shard.samples for shard in ledger.shards)
    indexed = {"indexed": sum(shard.indexed for shard in ledger.shards)}
    yield _equation("packed samples = indexed", packed, indexed)
    there = {"in the tars": sum(shard.there for shard in ledger.shards)}
    yield _equation("bytes of the shards = in the tars", sum(shard.bytes for shard in ledger.shards), there)
    # `forget` leaves holes in a shard and raises its revision; elsewhere a hole is a mistake
    holes = sum(
        ledger.planned_samples.get(shard.number, shard.samples) - shard.samples
        for shard in ledger.shards
        if shard.revision
    )
    terms = {"packed": packed, **({"forgotten": holes} if holes else {})}
    yield _equation("kept = packed", kept, terms, _done(ledger, "pack"))
    yield _equation("packed were kept", tables.size("packed"), {"kept": tables.shared("packed", "kept")})
