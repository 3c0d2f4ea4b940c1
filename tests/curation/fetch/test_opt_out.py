"""Who opts out and how much a host is asked, by all workers of one fetch: counted at the server, and in the ledger."""

from __future__ import annotations

import json
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from curation.fetch.rounds import fetch
from curation.ledger.read import read_ledger
from curation.reporting.facts import web
from tests.curation.fetch.fetch_site import ident, recipe_for, rounds_of, select
from tests.servers.loopback_web import JPEG

PLACES, MANY, BUSY = 3, 24, 8
HEADER, ROBOTS, TDM, SILENT = (f"http://{name}.test/{name}.jpg" for name in ("header", "robots", "tdm", "silent"))
OPTED_OUT = [HEADER, ROBOTS, TDM, SILENT]
RESERVING = json.dumps([{"location": "/", "tdm-reservation": 1}]).encode()
SAYING_NO = {
    "/header.jpg": lambda nth: (200, JPEG, {"X_Robots_Tag": "otherbot: all, facemakeup: noai"}),
    "robots.test/robots.txt": lambda nth: (200, b"User-agent: facemakeup\nDisallow: /", {}),
    "tdm.test/.well-known/tdmrep.json": lambda nth: (200, RESERVING, {}),
    "silent.test/robots.txt": lambda nth: (500, b"", {}),
}
FAILED = dict.fromkeys(("opted_out_header", "opted_out_robots_txt", "opted_out_tdm", "robots_txt_unreachable"), 1)


def test_one_fetch_that_is_asked_to_leave_things_alone(ray_cluster, site, run):
    """Three workers with two threads each: without a limit that they share, six requests would be at a host."""
    many = [f"http://many.test/{i}.jpg" for i in range(MANY)]
    select(run, [*many, *(f"http://busy.test/busy{i}.jpg" for i in range(BUSY)), *OPTED_OUT])
    paused = []

    def crowded(nth):
        until = time.monotonic() + 30
        while site.most_at_once["many.test"] < PLACES and time.monotonic() < until:
            time.sleep(0.01)  # until the other workers are there, too
        time.sleep(0.05)  # a place beyond the limit would be taken by now
        return 200, JPEG, {}

    def full(nth):
        if nth > 1:
            return 200, JPEG, {}
        answer = crowded(nth)[1]
        paused.append(time.monotonic())
        return 503, answer, {"Retry_After": "1"}

    in_an_hour = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    site.pages = {
        **{f"/{i}.jpg": crowded for i in range(MANY)},
        "/4.jpg": full,
        **{f"/busy{i}.jpg": lambda nth: (503, b"", {"Retry_After": in_an_hour}) for i in range(BUSY)},
        **SAYING_NO,
    }
    recipe = recipe_for(site, threads=2, host_connections=PLACES, longest_pause=5, rounds=2, timeout=40, deadline=60)
    info = fetch(run, recipe)

    assert set(site.most_at_once.values()) <= {1, 2, PLACES} and site.most_at_once["many.test"] == PLACES
    # a pause that is short is waited for: only what was under way when it was asked for comes within it
    (at,) = paused
    assert sum(host == "many.test" and at < when < at + 0.95 for when, host, _ in site.asked) < PLACES
    # one that is long is told to all the others, who leave the host alone
    assert sum(path.startswith("/busy") for path in site.seen) <= PLACES
    assert Counter(site.seen)["/4.jpg"] == 2 and rounds_of(run)[ident(4)] == [(0, "http_503"), (1, "success")]

    assert "/robots.jpg" not in site.seen and "/silent.jpg" not in site.seen
    assert Counter(host for host, _ in site.rules_seen)["many.test"] == 2, "once, robots.txt and tdmrep.json"
    # who may address us must see our name, wherever we come from
    agents = {headers["User-Agent"] for _, _, headers in site.asked}
    assert len(agents) == 1 and "facemakeup" in agents.pop()

    assert info["failed"] == {**FAILED, "asked_to_wait": BUSY} and info["fetched"] == MANY
    run.update_manifest(recipe=recipe.model_dump(mode="json"))
    ledger = read_ledger(run)
    assert ledger.reconciles and ledger.failed == info["failed"]
    costs = {cost.switch.partition(":")[0]: (cost.images, cost.share) for cost in web(ledger).given_up}
    assert costs == {
        "fetch.optout": (1, 1 / MANY),
        "fetch.robots_txt": (2, 2 / MANY),
        "fetch.tdm_reservation": (1, 1 / MANY),
    }


def test_switched_off_they_are_asked_all_the_same_in_another_round(ray_cluster, site, run):
    select(run, ["http://photos.test/a.jpg", *OPTED_OUT])
    site.pages = dict(SAYING_NO)
    assert fetch(run, recipe_for(site, rounds=1))["failed"] == FAILED
    site.rules_seen.clear()
    off = recipe_for(site, rounds=1, optout=[], robots_txt=False, tdm_reservation=False)
    assert fetch(run, off, again=True)["fetched"] == 1 + len(OPTED_OUT)
    assert site.rules_seen == []
