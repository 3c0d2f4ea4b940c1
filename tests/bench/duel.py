"""What every measurement of speed here is made of: two sides in turn, medians, a row of a table."""

from __future__ import annotations

import os
import resource
import statistics
import time
from collections.abc import Callable, Iterable

from rich.table import Table

from common.progress import say

ROUNDS = 5

Clock = Callable[[Callable[[], object]], float]


def seconds(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def core_seconds(function: Callable[[], object]) -> float:
    """Of all cores: this process, its threads, and the children that ended meanwhile. A busy neighbour adds little."""
    before = _used()
    function()
    return _used() - before


def _used() -> float:
    spent = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in spent)


def duel(
    ours: Callable[[], object], theirs: Callable[[], object], rounds: int = ROUNDS, clock: Clock = seconds
) -> tuple[float, float]:
    """Median seconds of both, rounds alternating, after one round of each that does not count."""
    ours(), theirs()
    return medians((clock(ours), clock(theirs)) for _ in range(rounds))


def medians(pairs: Iterable[tuple[float, float]]) -> tuple[float, float]:
    pairs = list(pairs)
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)


class Bench:
    """A table of one part. A row that has a goal says whether it was met."""

    def __init__(self, title: str) -> None:
        self.table = Table(title=title, title_justify="left")
        for heading in ("what", "ours", "beside", "theirs", "ours / theirs", "goal"):
            self.table.add_column(heading)

    def rate(
        self,
        what: str,
        beside: str,
        amount: float,
        unit: str,
        times: tuple[float, float],
        least: float | None = None,
        per: str = "s",
    ) -> None:
        """Rates: above 1 is faster than the peer. `least`: the ratio that is wanted."""
        ours, theirs = amount / times[0], amount / times[1]
        self.row(what, f"{ours:,.0f} {unit}/{per}", beside, f"{theirs:,.0f} {unit}/{per}", ours / theirs, least=least)

    def row(
        self,
        what: str,
        ours: str,
        beside: str,
        theirs: str,
        ratio: float,
        *,
        least: float | None = None,
        most: float | None = None,
        shown: str = "",
    ) -> None:
        """`shown`: the ratio, where two decimals do not say it."""
        wanted = []
        if least is not None:
            wanted.append(f"at least {least:g}: {'met' if ratio >= least else '[bold]missed[/]'}")
        if most is not None:
            wanted.append(f"at most {most:g}: {'met' if ratio <= most else '[bold]missed[/]'}")
        self._add(what, ours, beside, theirs, shown or f"{ratio:.2f}", ", ".join(wanted))

    def absent(self, what: str, beside: str, reason: str) -> None:
        """A row that could not be measured here, and why."""
        self._add(what, "", beside, "", "absent", reason)

    def _add(self, what: str, ours: str, beside: str, theirs: str, ratio: str, goal: str) -> None:
        say("bench", f"{what} / {beside}: {ratio}")  # the table comes minutes later
        self.table.add_row(what, ours, beside, theirs, ratio, goal)


def one_thread() -> None:
    """torch's own threads would make a rate a core meaningless, and forked ranks hang."""
    import torch

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
