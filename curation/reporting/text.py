"""Short texts that the terminal and the page share: the headline, what a reader must know first, and numbers."""

from __future__ import annotations

from curation.ledger.model import Ledger
from curation.reporting.facts import GivenUp


def headline(ledger: Ledger) -> str:
    candidates = ledger.tables.size("candidates")
    if not ledger.has("verdicts"):
        return f"{candidates:,} candidates, not cut yet"
    return f"{len(ledger.kept):,} kept of {candidates:,} candidates"


def notices_of(ledger: Ledger) -> list[tuple[str, str]]:
    """(kind, sentence) of everything that a reader must know before a number."""
    manifest, notices = ledger.manifest, []
    for equation in ledger.broken:
        notices.append(("broken", f"Does not reconcile: {equation.name}: {equation.left:,} against {equation.right:,}"))
    if manifest.get("stand_in"):
        name = manifest.get("detector") or "another detector"
        text = f"Faces were found by a stand-in, {name}, because the file of the recipe's detector could not be had."
        notices.append(("note", f"{text} Its scores and its verdicts are not that detector's."))
    for thing in manifest.get("invented") or ():
        notices.append(("note", f"Invented for this run, not real: {thing}."))
    if (ledger.recipe.get("fetch") or {}).get("local_web"):
        notices.append(("note", "The web of this run is a local server that plays it: its failures are staged."))
    waiting = [step.name for step in ledger.steps if step.state != "done"]
    if waiting:
        notices.append(
            ("note", f"Not finished: {', '.join(waiting)}. Numbers of these steps are partial, or not there yet.")
        )
    return notices


def percent(share: float | None) -> str:
    if share is None:
        return ""
    return f"{share:.1%}" if share < 0.9995 or share == 1 else "99.9%"


def images_text(number: int) -> str:
    return f"{number:,} image{'s' if number != 1 else ''}"


def given_up_text(cost: GivenUp) -> str:
    beside = (
        f"{cost.fetched:,} were fetched: {percent(cost.share)} of these"
        if cost.share is not None
        else "none fetched yet"
    )
    return f"given up to {cost.to}: {images_text(cost.images)} ({beside}); {cost.switch} would ask for them"


def time_text(created: str) -> str:
    """An ISO time as people write it."""
    return created[:19].replace("T", " ") + (" UTC" if created.endswith(("+00:00", "Z")) else "")
