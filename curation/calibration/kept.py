"""How good the set is that is kept: by recipe, by kind of error, on pictures that no threshold was chosen on.

Two intervals stand at each share. One counts pictures. The other counts motifs: twenty edits of one portrait are not
twenty portraits, and if they all went the same way there would be as many answers as there are motifs (Kish's effective
number, for answers that agree entirely). The truth is between the two; the lower bounds are what may be said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table

from common.intervals import Rate
from curation.calibration.labels import Labelled, motif_of
from curation.filters.base import Filter
from curation.filters.evidence import PASS
from curation.filters.registry import Thresholds

KINDS = ("drawing", "toned", "grey", "text", "faces", "other")
Choose = Callable[[Labelled, dict[str, Filter], Thresholds, np.ndarray], Thresholds]


@dataclass(frozen=True)
class Configuration:
    """Filters that decide together, with the thresholds they do it with."""

    title: str
    filters: dict[str, Filter]
    thresholds: Thresholds

    def keeps(self, labelled: Labelled, thresholds: Thresholds | None = None) -> np.ndarray:
        """bool (rows,)"""
        thresholds = thresholds or self.thresholds
        rejected = [
            item.verdict(labelled.evidence[name], getattr(thresholds, name)) != PASS
            for name, item in self.filters.items()
        ]
        return ~np.any(rejected, axis=0)


def configurations(filters: dict[str, Filter], thresholds: Thresholds) -> list[Configuration]:
    """The recipe; and where it has filters beside the paper's: without each, and the paper's as they are by default."""
    additions = [name for name, item in filters.items() if item.optional]
    found = [Configuration("the recipe", filters, thresholds)]
    for name in additions:
        rest = {other: item for other, item in filters.items() if other != name}
        found.append(Configuration(f"  without {name}", rest, thresholds))
    if additions:
        paper = {name: item for name, item in filters.items() if name not in additions}
        found.insert(0, Configuration("the paper's filters", paper, Thresholds()))
    return found


# -- counting --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Share:
    """A share of pictures; `by_motif`: the same share of as many pictures as would tell as much, did motifs agree."""

    by_picture: Rate
    by_motif: Rate

    @classmethod
    def of(cls, hits: np.ndarray, counts: np.ndarray, motifs: np.ndarray) -> Share:
        """Of the pictures that count, those that are hits; bool (rows,) each. `motifs`: of each row."""
        plain = Rate(int((hits & counts).sum()), int(counts.sum()))
        sizes = np.array(list(Counter(motifs[counts].tolist()).values()), float)
        effective = round(sizes.sum() ** 2 / (sizes**2).sum()) if len(sizes) else 0
        return cls(plain, Rate(int(plain.value * effective), effective))

    def __str__(self) -> str:
        if not self.by_picture.of:
            return "-"
        (low, high), cautious = self.by_picture.interval, self.by_motif.interval[0]
        return f">= {low:.3f} (motifs {cautious:.2f}), <= {high:.3f}; {self.by_picture.hits}/{self.by_picture.of}"


@dataclass(frozen=True)
class Kept:
    precision: Share
    recall: Share

    @classmethod
    def of(cls, kept: np.ndarray, good: np.ndarray, counts: np.ndarray, motifs: np.ndarray) -> Kept:
        return cls(Share.of(good, kept & counts, motifs), Share.of(kept, good & counts, motifs))


def kind_of(label: Mapping[str, str]) -> str:
    """Why a picture does not belong in the set: the first of KINDS."""
    if label["drawing"] not in ("", "photo"):
        return "drawing"
    if label["colour"] in ("toned", "partial"):
        return "toned"
    if label["colour"] == "grey":
        return "grey"
    if label["text"] == "much":
        return "text"
    return "faces" if label["faces"] not in ("", "1") else "other"


def cross_fitted(labelled: Labelled, one: Configuration, choose: Choose) -> np.ndarray:
    """What is kept, bool (rows,): in each half with the additions' thresholds chosen on the other half."""
    kept = np.zeros(len(labelled.labels), bool)
    additions = {name: item for name, item in one.filters.items() if item.optional}
    for half in (labelled.choosing, ~labelled.choosing):
        chosen = choose(labelled, additions, one.thresholds, ~half)
        kept[half] = one.keeps(labelled, chosen)[half]
    return kept


# -- printing --------------------------------------------------------------------------------------------------------


def print_kept(labelled: Labelled, every: Iterable[Configuration], choose: Choose, console: Console) -> None:
    """Precision and recall of the kept set, and what kinds of picture are kept or lost by mistake."""
    answered, good = labelled.counts & ~labelled.where("keep", ""), labelled.where("keep", "1")
    doubtful = labelled.where("doubtful", "1")
    motifs = np.array([motif_of(label) for label in labelled.labels])
    reporting = ~labelled.choosing
    edits = labelled.where("made", "1")
    shares = Table(title="the kept set, with 95 % intervals", title_justify="left")
    for heading in ("", "pictures", "doubtful ones", "precision", "recall"):
        shares.add_column(heading, no_wrap=True)
    errors = Table(title="kept wrongly, of those to go, by kind (doubtful ones left out)", title_justify="left")
    for heading in ("", *KINDS, "good ones lost"):
        errors.add_column(heading, no_wrap=True)
    for one in every:
        fixed, crossed = one.keeps(labelled), cross_fitted(labelled, one, choose)
        where = [("half not chosen on", fixed, reporting), ("both, cross-fitted", crossed, np.ones_like(reporting))]
        if edits.any():
            where.insert(1, ("  of it, as found", fixed, reporting & ~edits))
            where.append(("  of both, as found", crossed, ~edits))
        for what, kept, rows in where:
            for doubt, counts, truth in (
                ("left out", rows & answered & ~doubtful, good),
                ("as labelled", rows & answered, good),
                ("all against", rows & answered, np.where(doubtful, ~kept, good)),
            ):
                quality = Kept.of(kept, truth, counts, motifs)
                shares.add_row(one.title, what, doubt, str(quality.precision), str(quality.recall))
            counts = rows & answered & ~doubtful
            if counts.any():
                errors.add_row(f"{one.title}, {what.strip()}", *_by_kind(labelled, kept, good, counts))
        shares.add_section()
    console.print(shares)
    console.print(errors)


def _by_kind(labelled: Labelled, kept: np.ndarray, good: np.ndarray, counts: np.ndarray) -> list[str]:
    kinds = np.array([kind_of(label) for label in labelled.labels])
    cells = []
    for kind in KINDS:
        to_go = counts & ~good & (kinds == kind)
        cells.append(f"{int((kept & to_go).sum())}/{int(to_go.sum())}")
    return [*cells, f"{int((~kept & good & counts).sum())}/{int((good & counts).sum())}"]
