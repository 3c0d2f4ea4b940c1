"""Two cuts of the same images side by side: what both keep, what one keeps alone, and why the other does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from common.settings import flattened
from curation.filters.registry import Thresholds
from curation.ledger.model import Ledger
from curation.reporting.funnel import NO_IDENTITY, label_of, rejection_of
from curation.reporting.text import images_text
from curation.reporting.thumbnails import Grid, Tile

SHOWN = 36  # thumbnails of what one cut keeps alone


@dataclass(frozen=True)
class Alone:
    """What `cut` keeps and the other does not. `lost_to`: {reason of the other: images}; `examples`: (id, reason)."""

    cut: str
    other: str
    lost_to: dict[str, int]
    examples: list[tuple[int, str]]

    @property
    def images(self) -> int:
        return sum(self.lost_to.values())

    @property
    def reasons(self) -> list[tuple[str, str, int]]:
        """(reason as people read it, what is wrong with such an image, images), most images first."""
        return [(label_of(reason), rejection_of(reason), number) for reason, number in self.lost_to.items()]

    def grid(self) -> Grid:
        what = f"{images_text(self.images)}; below each, what {self.other} rejects it for"
        tiles = [Tile(number, label_of(reason)) for number, reason in self.examples]
        return Grid(f"Kept by {self.cut} alone", tiles, "kept", what if self.images else "")


@dataclass(frozen=True)
class TwoCuts:
    """`settings`: (what differs, in this cut, in the other). Counts are of the `judged` images, which both cuts saw."""

    name: str
    other: str
    judged: int
    both: int
    neither: int
    here: Alone
    there: Alone
    settings: list[tuple[str, str, str]]


def two_cuts(ledger: Ledger) -> TwoCuts | None:
    """None where the ledger has no other cut."""
    if ledger.other is None:
        return None
    name, other = ledger.cut, ledger.other.name
    # only images on which the cuts differ become a table: of ten million most do not
    ledger.tables.execute(f"""
        CREATE OR REPLACE TEMP VIEW judged_twice AS SELECT verdicts.id, other_verdicts.lost_to AS there, CASE
                WHEN verdict != 'kept' THEN coalesce(reason, verdict)
                WHEN verdicts.id IN (FROM no_identity) THEN '{NO_IDENTITY}' END AS here
            FROM verdicts JOIN other_verdicts USING (id);
        CREATE OR REPLACE TEMP TABLE kept_by_one AS
            FROM judged_twice WHERE (here IS NULL) != (there IS NULL);
    """)
    ((judged, both, neither),) = ledger.tables.rows("""
        SELECT count(*), count(*) FILTER (here IS NULL AND there IS NULL),
            count(*) FILTER (here IS NOT NULL AND there IS NOT NULL)
        FROM judged_twice
    """)
    return TwoCuts(
        name, other, judged, both, neither, _alone(ledger, name, other, "there"), _alone(ledger, other, name, "here"),
        _differences(ledger),
    )  # fmt: skip


def _alone(ledger: Ledger, cut: str, other: str, lost_to: str) -> Alone:
    """`lost_to`: the column that says why the other cut lost an image."""
    # some of every reason, else the most frequent would be all that is seen; ids are hashes, so their order is random
    examples = f"""
        SELECT id, {lost_to} FROM (
            SELECT id, {lost_to}, row_number() OVER (PARTITION BY {lost_to} ORDER BY id) AS turn
            FROM kept_by_one WHERE {lost_to} IS NOT NULL ORDER BY turn, id LIMIT {SHOWN}
        ) ORDER BY {lost_to}, id"""
    return Alone(cut, other, ledger.tables.counts(lost_to, "kept_by_one"), ledger.tables.rows(examples))


def _differences(ledger: Ledger) -> list[tuple[str, str, str]]:
    """Filters that one cut lacks or that scored otherwise, then thresholds; of filters in either cut alone."""
    other = ledger.other
    assert other is not None
    checks = list(dict.fromkeys((*ledger.checks, *other.checks)))
    rows = []
    for check in checks:
        prints = ledger.fingerprints.get(check), other.fingerprints.get(check)
        if (check in ledger.checks) != (check in other.checks):
            rows.append((f"{check}, the filter", *("yes" if check in cut.checks else "no" for cut in (ledger, other))))
        elif prints[0] != prints[1]:
            rows.append((f"{check}, its scores", *(str(print_) for print_ in prints)))
    here, there = _thresholds(ledger.thresholds, checks), _thresholds(other.thresholds, checks)
    return rows + [(key, _said(value), _said(there[key])) for key, value in here.items() if value != there[key]]


def _said(value: object) -> str:
    return "no limit" if value is None else str(value)


def _thresholds(thresholds: Thresholds, checks: Sequence[str]) -> dict[str, object]:
    values = flattened(thresholds.model_dump(mode="json"))
    return {key: value for key, value in values.items() if key.split(".")[0] in checks}
