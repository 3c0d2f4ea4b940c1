"""Another cut of the same images, read beside the ledger's own, so that a person can choose between the two."""

from __future__ import annotations

from typing import Any

from common.errors import UserError
from curation.cutting.cut import content_file, current_pass
from curation.ledger.loading import checks_in, without_identity
from curation.ledger.model import Ledger, OtherCut
from curation.ledger.read import choose_cut, thresholds_of

WHOLE = "cuts/*/verdicts/*/funnel.json"


def load_other_cut(ledger: Ledger, name: str | None = None) -> None:
    """Make another cut the ledger's `other`, and put its verdicts into a table.

    `name`: default: the newest other one that is whole and of the same snapshot, if there is one.

    Raises:
        RunNotFound: there is no cut of that name.
        UserError: it is not finished, or of other images, or the ledger's own.
    """
    if name is None:
        name = _newest(ledger)
    else:
        _check(ledger, choose_cut(ledger.run, ledger.manifest, name))
    if name is None or not ledger.has("verdicts"):
        return
    run, tables = ledger.run, ledger.tables
    files = run.glob(f"{current_pass(run, name)}/*.parquet")
    lost_to = "id, CASE WHEN verdict != 'kept' THEN coalesce(reason, verdict) END"
    parts = zip(files, run.read_each(files, ["id", "verdict", "reason"]), strict=True)
    tables.insert("other_verdicts", lost_to, parts)
    content = _content(ledger, name)
    without = without_identity(ledger, name, str(content.get("encoder") or ""), "other_listed")
    tables.execute(f"""
        UPDATE other_verdicts SET lost_to = 'no_identity'
        WHERE lost_to IS NULL AND id IN (SELECT id FROM {without} AS without)
    """)
    checks = checks_in(run, files[0]) if files else ()
    ledger.other = OtherCut(name, checks, thresholds_of(ledger, name), content.get("fingerprints") or {})


def _content(ledger: Ledger, name: str) -> dict[str, Any]:
    path = content_file(name)
    return ledger.run.read_json(path, ("content",))["content"] if ledger.run.exists(path) else {}


def _newest(ledger: Ledger) -> str | None:
    """By the number of the pass, which begins with the driver's: drivers are numbered in turn, in any time zone."""
    passes = [path.split("/") for path in ledger.run.glob(WHOLE)]
    newest_first = sorted(((number, name) for _, name, _, number, _ in passes if name != ledger.cut), reverse=True)
    return next((name for _, name in newest_first if _same_snapshot(ledger, name)), None)


def _same_snapshot(ledger: Ledger, name: str) -> bool:
    own = _content(ledger, ledger.cut).get("snapshot")
    return own is not None and own == _content(ledger, name).get("snapshot")


def _check(ledger: Ledger, name: str) -> None:
    if name == ledger.cut:
        raise UserError(
            f"{ledger.run.root}: {name!r} cannot stand beside itself: name another cut, or report another one"
        )
    if current_pass(ledger.run, name) is None:
        raise UserError(
            f"{ledger.run.root}: the cut {name!r} is not finished: the command that began it goes on with it"
        )
    if not _same_snapshot(ledger, name):
        raise UserError(
            f"{ledger.run.root}: the cuts {ledger.cut!r} and {name!r} are of other images, one of them from before more"
            " were fetched; make recut NAME=... cuts all that there are now"
        )
