"""What each step let through, what each filter rejects, and how that compares with the published set.

Filters stop at the first failure, so which later check an image would have failed is often unknown. The audited
images went through all of them: they turn the unknown into an estimate with an interval. Where nothing is unknown,
the numbers are exact and say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from common.intervals import Rate, wilson
from curation.filters.base import DerivedCheck
from curation.filters.registry import check_class
from curation.ledger.model import Ledger
from curation.run_directory.candidates import what_the_sort_did
from curation.run_directory.schemas import SelectedCounts

NO_IDENTITY = "no_identity"  # the one rejection after the checks: the identity encoder found no face to embed

UNDECIDED = "undecided"  # a verdict that has no reason


def label_of(reason: str) -> str:
    """A check, or a reason, as the report's tables spell it."""
    check = check_class(reason)
    return check.label if check else reason.replace("_", " ")


def rejection_of(reason: str) -> str:
    """What is wrong with an image that was rejected for this reason."""
    if reason == NO_IDENTITY:
        return "the identity encoder found no face to embed"
    if reason == UNDECIDED:
        return "a score that decides is not there"
    check = check_class(reason)
    return check.rejection if check else "the filter failed on them"


@dataclass(frozen=True)
class Stage:
    """One line of the funnel. `low`, `high`: the 95 % interval of an estimate; `count` None: not yet.

    `top`, `before`: the counts of the first stage and of the one before.
    """

    name: str
    count: int | None
    note: str = ""
    low: int | None = None
    high: int | None = None
    partial: bool = False
    top: int | None = None
    before: int | None = None

    @property
    def estimated(self) -> bool:
        return self.low is not None

    @property
    def of_all(self) -> float | None:
        return None if self.count is None or not self.top else self.count / self.top

    @property
    def of_before(self) -> float | None:
        return None if self.count is None or not self.before else min(1.0, self.count / self.before)


def funnel(ledger: Ledger) -> list[Stage]:
    """The paper's order: candidates, selected (resolution), fetched, decodable, the checks, identity: kept."""
    partial = {step.name: step.state == "partial" for step in ledger.steps}
    tables, cut, snapshot = ledger.tables, ledger.has("verdicts"), ledger.snapshot

    def rows(table: str) -> int | None:
        return tables.size(table) if ledger.has(table) else None

    counts = ledger.select_counts
    # a damaged file may lack what is said of it
    whole = SelectedCounts.__required_keys__ <= counts.keys()
    sort = f": {counts['key']}, {what_the_sort_did(counts)}" if whole else ""
    stages = [
        Stage("candidates", rows("candidates"), partial=partial["sources"]),
        Stage("selected", rows("selected"), f"by resolution{sort}", partial=partial["select"]),
        Stage("fetched", ledger.fetched if ledger.has("attempts") else None, partial=partial["fetch"]),
    ]
    if snapshot is None or snapshot.get("surplus"):
        stages.append(Stage("taken", rows("taken"), "surplus of the over-provisioning cut back"))
    decoded = ledger.has("images") and tables.size("images") < tables.size("taken")
    stages.append(Stage("decodable", ledger.scored if ledger.has("images") else None, partial=decoded))
    stages += check_stages(ledger, partial["cut"])
    kept = len(ledger.kept) if cut else None
    if not cut or len(ledger.no_identity):
        stages.append(Stage("identity", kept, partial=partial["annotate"]))
    stages.append(Stage("kept", kept, partial=partial["cut"]))
    top, before = next((stage.count for stage in stages if stage.count), 0), None
    for number, stage in enumerate(stages):
        stages[number] = replace(stage, top=top, before=before)
        before = before if stage.count is None else stage.count
    return stages


def check_stages(ledger: Ledger, partial: bool) -> list[Stage]:
    """What is left after each check in the paper's order."""
    if not ledger.has("verdicts"):
        return [Stage(label_of(check), None) for check in ledger.checks]
    states = [_state(ledger.checks[: number + 1]) for number in range(len(ledger.checks))]
    all_known = " AND ".join(f"{state} != -1" for state in states)
    stages, undecided_before = [], 0
    for check, state in zip(ledger.checks, states, strict=True):
        rows = ledger.tables.rows(f"""
            SELECT verdict, {state}, audited AND {all_known}, count(*)
            FROM verdicts WHERE verdict != 'undecodable' GROUP BY ALL
        """)
        passed = sum(images for _, value, _, images in rows if value == 1)
        undecided = sum(images for verdict, value, _, images in rows if (verdict, value) == ("undecided", -1))
        rejected = [row[1:] for row in rows if row[0] == "rejected"]
        unknown = sum(images for value, _, images in rejected if value == -1)
        note = f"{undecided - undecided_before:,} undecided" if undecided > undecided_before else ""
        undecided_before = undecided
        if not unknown:
            stages.append(Stage(label_of(check), passed, note, partial=partial))
            continue
        # only the rejected are uncertain: their share among the audited is unbiased, what is known bounds it
        audited = sum(images for _, known, images in rejected if known)
        through = sum(images for value, known, images in rejected if known and value == 1)
        certain = passed - sum(images for value, _, images in rejected if value == 1)
        uncertain = sum(images for _, _, images in rejected)
        shares = (*wilson(through, audited), through / audited if audited else 0.5)
        ends = [certain + share * uncertain for share in shares]
        low, high, middle = (round(min(max(end, passed), passed + unknown)) for end in ends)
        stages.append(Stage(label_of(check), middle, note, low, high, partial))
    return stages


def _state(checks: Sequence[str]) -> str:
    """SQL: 1 the image passed all of these checks, 0 it did not, -1 that is not known."""
    columns = ", ".join(f'"{check}"' for check in checks)
    return f"CASE WHEN verdict = 'kept' THEN 1 WHEN 0 IN ({columns}) THEN 0 WHEN -1 IN ({columns}) THEN -1 ELSE 1 END"


# -- what each check rejects -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rejections:
    """What each check rejects, and what nothing else would have caught: {check: (rejected, rejected by it only)}.

    Counted on `images` that went through all checks. `sample`: these are the audited ones.
    """

    checks: dict[str, tuple[Rate, Rate]]
    images: int
    sample: bool


def rejections(ledger: Ledger) -> Rejections:
    tables, decodable = ledger.tables, "verdicts WHERE verdict != 'undecodable'"
    through_all = " AND ".join(_is_done(check) for check in ledger.checks)
    sample = tables.size(f"{decodable} AND verdict != 'undecided' AND NOT ({through_all})") > 0
    if sample:  # who fails late went through more checks: only the audited are a fair sample
        through_all += " AND audited"
    images = tables.size(f"{decodable} AND {through_all}")
    failing = " + ".join(f'("{check}" = 0)::INT' for check in ledger.checks)
    checks = {}
    for check in ledger.checks:
        rejected = f'{decodable} AND {through_all} AND "{check}" = 0'
        fails, only = tables.size(rejected), tables.size(f"{rejected} AND {failing} = 1")
        checks[label_of(check)] = Rate(fails, images), Rate(only, images)
    return Rejections(checks, images, sample)


def _is_done(check: str) -> str:
    """SQL: whether an image went through the check."""
    derived = check_class(check)
    if derived is None or not issubclass(derived, DerivedCheck):
        return f'"{check}" != -1'
    # without the face that an image should have there is no box to compare: the check is as done as it gets
    needed = ", ".join(f'"{need}"' for need in derived.needs)
    return f'("{check}" != -1 OR 0 IN ({needed}))'


# -- against the published FaceCaptionHQ-4M ------------------------------------------------------------------------


@dataclass(frozen=True)
class Published:
    """Our kept set against the published one, among the candidates of this run."""

    candidates: int  # that are in the published set
    judged: int  # of them: fetched, decodable and decided
    both: int
    ours_only: int  # judged, kept, not published
    reasons: dict[str, int]  # published but not kept: where they were lost
    failing: dict[str, tuple[int, int]]  # check: (published that it rejects, all that it rejects)
    rejected: list[tuple[int, str]]  # examples: id, reason
    extra: list[int]  # examples

    @property
    def recall(self) -> Rate:
        return Rate(self.both, self.judged)

    @property
    def recall_of_all(self) -> Rate:
        return Rate(self.both, self.candidates)

    @property
    def jaccard(self) -> Rate:
        return Rate(self.both, self.judged + self.ours_only)


def published(ledger: Ledger, examples: int = 12) -> Published | None:
    """None where no HQ-4M table was given, or nothing is cut yet."""
    tables, wanted = ledger.tables, "(SELECT id FROM candidates WHERE in_hq)"
    if not ledger.has("verdicts") or not tables.number("SELECT count(in_hq) FROM candidates"):
        return None
    tables.execute(f"""
        CREATE OR REPLACE TEMP TABLE compared AS SELECT *,
            id IN {wanted} AS published,
            CASE WHEN id IN (FROM kept) THEN 'kept' WHEN verdict = 'kept' THEN 'rejected' ELSE verdict END AS outcome,
            CASE WHEN verdict = 'kept' THEN '{NO_IDENTITY}' ELSE reason END AS lost_to
        FROM verdicts""")
    number = dict(tables.rows("SELECT outcome, count(*) FROM compared WHERE published GROUP BY 1")).get
    lost = "compared WHERE published AND outcome = 'rejected'"
    extra = "compared WHERE outcome = 'kept' AND NOT published"
    selected = f"(FROM {wanted} SEMI JOIN selected USING (id))"
    reasons = {
        "not selected": tables.size(wanted) - tables.size(selected),
        "not fetched": tables.size(selected) - tables.shared(selected, "taken"),
        "undecodable": number("undecodable", 0),
        "undecided": number("undecided", 0),
        **{label_of(reason): n for reason, n in tables.counts("lost_to", lost).items()},
    }
    failing = {}
    for check in ledger.checks:
        (counts,) = tables.rows(f'SELECT count(*) FILTER (published), count(*) FROM compared WHERE "{check}" = 0')
        failing[label_of(check)] = counts
    return Published(
        candidates=tables.size(wanted),
        judged=number("kept", 0) + number("rejected", 0),
        both=number("kept", 0),
        ours_only=tables.size(extra),
        reasons={reason: n for reason, n in reasons.items() if n},
        failing=failing,
        rejected=tables.rows(f"SELECT id, lost_to FROM {lost} ORDER BY id LIMIT {examples}"),
        extra=[id for (id,) in tables.rows(f"SELECT id FROM {extra} ORDER BY id LIMIT {examples}")],
    )
