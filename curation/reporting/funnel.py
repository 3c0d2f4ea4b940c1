"""What each step let through, what each filter rejects, and how that compares with the published set.

Filters stop at the first failure, so which later check an image would have failed is often unknown. The audited
images went through all of them: they turn the unknown into an estimate with an interval. Where nothing is unknown,
the numbers are exact and say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from common.intervals import Rate, wilson
from curation.filters.base import DerivedCheck
from curation.filters.registry import check_class
from curation.ledger.cut_tables import Verdicts
from curation.ledger.model import Ledger
from curation.ledger.tables import among, rows_of

NO_IDENTITY = "no_identity"  # the one rejection after the checks: the identity encoder found no face to embed


def label_of(reason: str) -> str:
    """A check, or a reason, as the report's tables spell it."""
    check = check_class(reason)
    return check.label if check else reason.replace("_", " ")


def rejection_of(reason: str) -> str:
    """What is wrong with an image that was rejected for this reason."""
    if reason == NO_IDENTITY:
        return "the identity encoder found no face to embed"
    check = check_class(reason)
    return check.rejection if check else "the filter failed on them"


@dataclass(frozen=True)
class Stage:
    """One line of the funnel. `low`, `high`: the 95 % interval of an estimate; `count` None: not yet."""

    name: str
    count: int | None
    note: str = ""
    low: int | None = None
    high: int | None = None
    partial: bool = False

    @property
    def estimated(self) -> bool:
        return self.low is not None


def survivors(verdicts: Verdicts) -> tuple[np.ndarray, np.ndarray]:
    """int8 (rows, checks): 1 passed all checks up to this one in the paper's order, 0 did not, -1 unknown.

    And bool (rows,): which rows are decodable.
    """
    decodable = ~verdicts.are("undecodable")
    kept = verdicts.are("kept")
    state = np.zeros(verdicts.checks.shape, dtype=np.int8)
    alive = np.ones(len(kept), dtype=np.int8)
    for column in range(len(verdicts.names)):
        check = verdicts.checks[:, column]
        alive = np.where((alive == 0) | (check == 0), 0, np.where((alive == -1) | (check == -1), -1, 1)).astype(np.int8)
        alive[kept] = 1
        state[:, column] = alive
    return state, decodable


def is_exact(verdicts: Verdicts) -> bool:
    """Whether every rejected image is known to have passed, or not, each check before the one that it failed."""
    state, decodable = survivors(verdicts)
    return not (state[decodable & verdicts.are("rejected")] == -1).any()


def funnel(ledger: Ledger) -> list[Stage]:
    """The paper's order: candidates, selected (resolution), fetched, decodable, the checks, identity: kept."""
    partial = {step.name: step.state == "partial" for step in ledger.steps}
    snapshot, verdicts = ledger.snapshot, ledger.verdicts
    stages = [
        Stage("candidates", len(ledger.candidates.ids) if ledger.candidates else None, partial=partial["sources"]),
        Stage(
            "selected",
            len(ledger.selected) if ledger.selected is not None else None,
            "by resolution" + (f": {ledger.select_counts['key']}" if "key" in ledger.select_counts else ""),
            partial=partial["select"],
        ),
        Stage("fetched", ledger.fetched if ledger.attempts else None, partial=partial["fetch"]),
    ]
    if snapshot is None or snapshot.counts.get("surplus"):
        count = len(snapshot.ids) if snapshot else None
        stages.append(Stage("taken", count, "surplus of the over-provisioning cut back"))
    decoded = ledger.images is not None and len(ledger.images.ids) < len(snapshot.ids)
    stages.append(Stage("decodable", ledger.scored if ledger.images else None, partial=decoded))
    stages += _checks(verdicts, ledger.checks, partial["cut"])
    if verdicts is None or len(ledger.no_identity):
        stages.append(
            Stage("identity", len(ledger.kept) if verdicts is not None else None, partial=partial["annotate"])
        )
    stages.append(Stage("kept", len(ledger.kept) if verdicts is not None else None, partial=partial["cut"]))
    return stages


def _checks(verdicts: Verdicts | None, names: Sequence[str], partial: bool) -> list[Stage]:
    if verdicts is None:
        return [Stage(label_of(check), None) for check in names]
    state, decodable = survivors(verdicts)
    kept, undecided = verdicts.are("kept"), verdicts.are("undecided")
    rejected = decodable & ~kept & ~undecided
    audited = rejected & verdicts.audited & (state != -1).all(axis=1)
    stages, told = [], 0
    for column, check in enumerate(names):
        passed = int((state[decodable, column] == 1).sum())
        unknown = int((state[rejected, column] == -1).sum())
        waiting = int((state[undecided, column] == -1).sum())
        note, told = f"{waiting - told:,} undecided" if waiting > told else "", waiting
        if not unknown:
            stages.append(Stage(label_of(check), passed, note, partial=partial))
            continue
        # only the rejected are uncertain: their share among the audited is unbiased, what is known bounds it
        through, seen = int((state[audited, column] == 1).sum()), int(audited.sum())
        base, total = passed - int((state[rejected, column] == 1).sum()), int(rejected.sum())
        ends = [base + share * total for share in (*wilson(through, seen), through / seen if seen else 0.5)]
        low, high, middle = (round(min(max(end, passed), passed + unknown)) for end in ends)
        stages.append(Stage(label_of(check), middle, note, low, high, partial))
    return stages


@dataclass(frozen=True)
class Alone:
    """What one check rejects, of the images on which all checks were evaluated."""

    check: str
    fails: Rate
    only: Rate


def alone(verdicts: Verdicts) -> tuple[list[Alone], int, bool]:
    """Each check's rejections, the number of images they are counted on, and whether these are a sample."""
    decodable, checks = ~verdicts.are("undecodable"), verdicts.checks
    done = checks != -1
    for column, name in enumerate(verdicts.names):
        check = check_class(name)
        if check is not None and issubclass(check, DerivedCheck):
            # without the face that an image should have there is no box to compare: the check is as done as it gets
            needed = [verdicts.names.index(need) for need in check.needs]
            done[:, column] |= (checks[:, needed] == 0).any(axis=1)
    full = decodable & done.all(axis=1)
    sample = bool((decodable & ~full & ~verdicts.are("undecided")).any())
    if sample:  # who fails late went through more checks: only the audited are a fair sample
        full &= verdicts.audited
    failed = checks[full] == 0
    number = int(full.sum())
    rows = []
    for column, check in enumerate(verdicts.names):
        only = failed[:, column] & (failed.sum(axis=1) == 1)
        rows.append(Alone(label_of(check), Rate(int(failed[:, column].sum()), number), Rate(int(only.sum()), number)))
    return rows, number, sample


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
    rejected_ids: np.ndarray
    extra_ids: np.ndarray

    @property
    def recall(self) -> Rate:
        return Rate(self.both, self.judged)

    @property
    def recall_of_all(self) -> Rate:
        return Rate(self.both, self.candidates)

    @property
    def jaccard(self) -> Rate:
        return Rate(self.both, self.judged + self.ours_only)


def published(ledger: Ledger) -> Published | None:
    """None where no HQ-4M table was given, or nothing is cut yet."""
    candidates, verdicts = ledger.candidates, ledger.verdicts
    if candidates is None or verdicts is None or not (candidates.in_hq >= 0).any():
        return None
    row = rows_of(candidates.ids, verdicts.ids)
    in_hq = np.where(row >= 0, candidates.in_hq[row], 0) == 1
    decided = verdicts.are("kept") | verdicts.are("rejected")
    kept = among(verdicts.ids, ledger.kept)
    ours_only, lost = decided & kept & ~in_hq, decided & ~kept & in_hq
    wanted = candidates.ids[candidates.in_hq == 1]
    selected = ledger.selected if ledger.selected is not None else wanted
    taken = ledger.snapshot.ids if ledger.snapshot else np.zeros(0, np.uint64)
    reasons = {
        "not selected": int((~among(wanted, selected)).sum()),
        "not fetched": int((among(wanted, selected) & ~among(wanted, taken)).sum()),
        "undecodable": int((in_hq & verdicts.are("undecodable")).sum()),
        "undecided": int((in_hq & verdicts.are("undecided")).sum()),
    }
    for reason, number in verdicts.reasons.count(verdicts.reason[lost]).items():
        reasons[label_of(reason)] = number
    if gone := int((in_hq & verdicts.are("kept") & ~kept).sum()):
        reasons[label_of(NO_IDENTITY)] = gone
    failing = {
        label_of(check): (
            int((in_hq & (verdicts.checks[:, column] == 0)).sum()),
            int((verdicts.checks[:, column] == 0).sum()),
        )
        for column, check in enumerate(verdicts.names)
    }
    return Published(
        candidates=len(wanted),
        judged=int((in_hq & decided).sum()),
        both=int((in_hq & decided & kept).sum()),
        ours_only=int(ours_only.sum()),
        reasons={reason: number for reason, number in reasons.items() if number},
        failing=failing,
        rejected_ids=verdicts.ids[lost],
        extra_ids=verdicts.ids[ours_only],
    )
