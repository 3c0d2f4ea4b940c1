"""Places at a host, pauses that it asks for, rules that are asked for once: no network, no Ray."""

from __future__ import annotations

import asyncio
import time
from email.utils import format_datetime, parsedate_to_datetime

import pytest

from curation.fetch import hosts as hosts_module
from curation.fetch.gate import retry_after
from curation.fetch.hosts import Hosts
from curation.fetch.site_rules import SiteRules


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 10))


def is_waiting(task) -> bool:
    return not task.done()


def test_a_host_has_so_many_places_and_no_more_first_come_first_served():
    async def check():
        hosts = Hosts(places=2, held=60, waited=60)
        one, two = await hosts.enter("a"), await hosts.enter("a")
        third, fourth = asyncio.create_task(hosts.enter("a")), asyncio.create_task(hosts.enter("a"))
        assert (await hosts.enter("b")).ticket is not None, "another host has its own"
        await asyncio.sleep(0)
        assert is_waiting(third) and is_waiting(fourth)
        await hosts.leave("a", one.ticket)
        await third
        assert is_waiting(fourth)
        await hosts.leave("a", one.ticket)  # twice gives nothing
        await asyncio.sleep(0)
        assert is_waiting(fourth)
        await hosts.leave("a", two.ticket)
        await fourth

    run(check())


def test_a_place_that_is_never_given_back_is_free_after_a_while():
    async def check():
        hosts = Hosts(places=1, held=0.05, waited=60)
        await hosts.enter("a")
        await hosts.enter("a")

    run(check())


def test_a_short_pause_is_waited_for():
    async def check():
        hosts = Hosts(places=2, held=60, waited=1)
        turn = await hosts.enter("a")
        started = time.monotonic()
        await hosts.leave("a", turn.ticket, pause=0.2)
        assert (await hosts.enter("a")).ticket is not None
        assert time.monotonic() - started >= 0.2

    run(check())


def test_a_long_pause_is_told_to_those_that_wait_and_those_that_come():
    async def check():
        hosts = Hosts(places=1, held=60, waited=1)
        turn = await hosts.enter("a")
        waiting = asyncio.create_task(hosts.enter("a"))
        await asyncio.sleep(0)
        await hosts.leave("a", turn.ticket, pause=100)
        for told in (await waiting, await hosts.enter("a")):
            assert told.ticket is None and told.wait == pytest.approx(100, abs=1)
        await hosts.leave("a", 99, pause=10**9)
        assert (await hosts.enter("a")).wait <= hosts_module.LONGEST_PAUSE

    run(check())


def test_hosts_that_nobody_is_at_take_no_memory():
    async def check():
        hosts = Hosts(places=1, held=60, waited=1)
        for number in range(100):
            turn = await hosts.enter(f"host{number}")
            await hosts.leave(f"host{number}", turn.ticket)
        assert hosts._hosts == {}

    run(check())


def test_rules_are_asked_for_by_one_and_others_wait():
    async def check():
        hosts = Hosts(places=1, held=60, waited=1)
        assert await hosts.lookup("http://a") is None
        other = asyncio.create_task(hosts.lookup("http://a"))
        await asyncio.sleep(0)
        assert is_waiting(other)
        await hosts.store("http://a", SiteRules("x"))
        assert await other == await hosts.lookup("http://a") == SiteRules("x")

    run(check())


def test_who_asks_for_rules_and_dies_is_replaced():
    async def check():
        hosts = Hosts(places=1, held=0.05, waited=1)
        assert await hosts.lookup("http://a") is None
        assert await hosts.lookup("http://a") is None

    run(check())


def test_a_new_round_asks_again_where_a_site_did_not_answer():
    async def check():
        hosts = Hosts(places=1, held=60, waited=1)
        await hosts.store("http://down", SiteRules(failure=("dns", "gone")))
        await hosts.store("http://up", SiteRules("x"))
        assert (await hosts.lookup("http://down")).failure
        await hosts.start_round()
        assert await hosts.lookup("http://down") is None and await hosts.lookup("http://up") == SiteRules("x")

    run(check())


def test_rules_are_kept_for_a_day_and_within_memory(monkeypatch):
    async def check():
        hosts = Hosts(places=1, held=60, waited=1)
        monkeypatch.setattr(hosts_module, "KEPT_LETTERS", 25)
        for number in range(3):
            await hosts.store(f"http://{number}", SiteRules("x" * 10))
        assert await hosts.lookup("http://0") is None and await hosts.lookup("http://2")
        now = time.monotonic()
        monkeypatch.setattr(hosts_module.time, "monotonic", lambda: now + 24 * 3600 + 1)
        assert await hosts.lookup("http://2") is None

    asyncio.run(check())


DATE = "Wed, 25 Jun 2025 15:00:00 GMT"
THEN = parsedate_to_datetime(DATE).timestamp()


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(None, 0), ("", 0), ("120", 120), (" 7 ", 7), ("-5", 0), ("soon", 0), ("1e9", 0), (DATE, 90)]
    + [("Wednesday, 25-Jun-25 15:00:00 GMT", 90), ("Wed Jun 25 15:00:00 2025", 90)]
    + [(format_datetime(parsedate_to_datetime("Wed, 25 Jun 2025 14:00:00 +0000"), usegmt=False), 0)],
)
def test_retry_after(value, seconds, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        found = retry_after(value, now=THEN - 90)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert found == seconds
