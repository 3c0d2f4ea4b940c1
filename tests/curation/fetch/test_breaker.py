"""When the circuit breaker stops a fetch, and when it does not."""

from __future__ import annotations

import pytest

from curation.fetch.breaker import CircuitBreaker, FetchStopped
from curation.fetch.part import PartSummary
from curation.recipe.recipe import Fetch


def failed(error: str, ids: list[str]) -> PartSummary:
    return PartSummary({error: len(ids)}, dict.fromkeys(ids, error), 0, {f"{i}.test": f"{error}: x" for i in ids})


def test_hosts_that_were_dead_before_are_no_outage():
    settings = Fetch(local_failures_after=2)
    breaker = CircuitBreaker(settings, failed_before=frozenset([0xA, 0xB, 0xC]))
    breaker.add(failed("dns", ["a", "b", "c"]))
    breaker.check()
    breaker.add(failed("dns", ["d", "e"]))
    with pytest.raises(FetchStopped, match="2 of the latest 2 attempts"):
        breaker.check()


def test_tasks_that_all_fail_stop_the_fetch_too():
    breaker = CircuitBreaker(Fetch(local_failures_after=2))
    breaker.add(failed("lost_by_downloader", ["a", "b"]))
    with pytest.raises(FetchStopped, match="full disk"):
        breaker.check()


def test_an_outage_after_a_good_start_is_seen_as_soon():
    breaker = CircuitBreaker(Fetch(local_failures_after=6))
    for _ in range(500):
        breaker.add(PartSummary({"success": 3}, {}, 0, {}))
        breaker.check()
    breaker.add(failed("dns", ["a", "b", "c"]))
    breaker.check()  # three of the latest six
    breaker.add(failed("dns", ["d", "e", "f"]))
    with pytest.raises(FetchStopped, match="6 of the latest 6 attempts"):
        breaker.check()
