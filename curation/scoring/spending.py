"""What scoring takes: calls and seconds of each stage, and core-seconds in all, added up unit by unit."""

from __future__ import annotations

import json
import resource
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from curation.scoring.careful import DECODER


@dataclass
class Spending:
    """By stage, which is `DECODER` or a filter: how many images it saw (were decoded for the first time), and for how many
    seconds by the clock. And the core-seconds of the processes that did all of it, reading and writing as well."""

    calls: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
    core_seconds: float = 0.0

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Spending:
        """Of a unit on its way through the operators; nothing before the first of them."""
        calls, seconds, core_seconds = json.loads(row.get("spent", "[{}, {}, 0]"))
        return cls(Counter(calls), Counter(seconds), core_seconds)

    def as_column(self) -> dict[str, str]:
        """For `of_row`."""
        return {"spent": json.dumps([self.calls, self.seconds, self.core_seconds])}

    def note(self, stage: str, images: int, seconds: float) -> None:
        self.calls[stage] += images
        self.seconds[stage] += seconds

    def update(self, other: Spending) -> None:
        self.calls.update(other.calls)
        self.seconds.update(other.seconds)
        self.core_seconds += other.core_seconds

    def of_all(self, filters: Collection[str]) -> float | None:
        """The core-seconds that it would have taken with every filter on every image; None where nothing new was decoded, or
        one of the filters was never called, so that its cost is not known.

        Clocks of stages run on while a neighbour has the core: only their proportions are taken.
        """
        images = self.calls[DECODER]
        if not images or not all(self.calls[name] for name in filters):
            return None
        skipped = {name: max(0, images - self.calls[name]) for name in filters}
        more = sum(self.seconds[name] / self.calls[name] * count for name, count in skipped.items())
        return self.core_seconds * (1 + more / self.seconds.total())

    def __str__(self) -> str:
        return ", ".join(f"{name} {count:,}" for name, count in self.calls.items() if name != DECODER)


def core_seconds() -> float:
    """That this process has used, all its threads and its ended children."""
    used = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)
