"""How far two people agree, and where they do not: counts, the share with its interval, and Cohen's kappa."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from common.intervals import Rate

SHOWN = 3  # photos of a disagreement that are named in a line


@dataclass
class Agreement:
    """Of one column: `pairs` counts (this one's word, the other's); `apart`: the photos that got different words."""

    column: str
    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    apart: list[str] = field(default_factory=list)

    @property
    def equal(self) -> Rate:
        return Rate(sum(count for (one, other), count in self.pairs.items() if one == other), self.pairs.total())

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa (1960): agreement beyond what the two would reach by chance, of what is possible beyond it.

        None where chance alone reaches everything: both gave one and the same word throughout.
        """
        total = self.pairs.total()
        ones, others = Counter[str](), Counter[str]()
        for (one, other), count in self.pairs.items():
            ones[one] += count
            others[other] += count
        chance = sum(ones[word] * others[word] for word in ones) / total**2 if total else 1.0
        return None if chance == 1.0 else (self.equal.value - chance) / (1 - chance)

    def __str__(self) -> str:
        if not self.pairs:
            return f"{self.column}: no photo that both answered"
        kappa = "" if self.kappa is None else f", kappa {self.kappa:.2f}"
        named = ", ".join(self.apart[:SHOWN]) + (", ..." if len(self.apart) > SHOWN else "")
        return f"{self.column}: equal {self.equal}{kappa}" + (f"; apart on {named}" if named else "")


Table = Mapping[str, Mapping[str, str]]  # answers by photo


def agreements(one: Table, other: Table, columns: Collection[str]) -> list[Agreement]:
    """One for each column, over the photos that both have a word for."""
    found = []
    for column in columns:
        agreement = Agreement(column)
        for photo in sorted(one.keys() & other.keys()):
            words = one[photo].get(column, ""), other[photo].get(column, "")
            if all(words):
                agreement.pairs[words] += 1
                agreement.apart += [photo] if words[0] != words[1] else []
        found.append(agreement)
    return found
