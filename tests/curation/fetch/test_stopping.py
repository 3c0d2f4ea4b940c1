"""A fetch that stops itself, and what the next one tries again, on a real Ray."""

from __future__ import annotations

import time

import pytest
import ray

import curation.fetch.rounds as rounds_module
from curation.fetch.breaker import FetchStopped
from curation.fetch.part import PartSummary
from curation.fetch.reasons import NothingFetched
from curation.fetch.rounds import fetch
from curation.run_directory.snapshot import latest_counts
from tests.curation.fetch.fetch_site import ident, photos, recipe_for, rounds_of, select


def test_local_causes_stop_the_fetch_and_the_next_run_tries_them_again(ray_cluster, site, run):
    select(run, [f"https://host{i}.test/{i}.jpg" for i in range(12)])  # the server speaks no TLS
    broken = recipe_for(site, local_failures_after=4, part_size=12)
    with pytest.raises(FetchStopped) as caught:
        fetch(run, broken)
    message = str(caught.value)
    assert "tls" in message and "remedy" in message and message.count("for example host") == 3
    assert run.exists("fetched/stopped-00.json") and latest_counts(run) is None
    with pytest.raises(FetchStopped):  # still broken: what failed so before does not hide it
        fetch(run, broken)

    with pytest.raises(NothingFetched, match="none of 12 images was fetched: tls 12"):
        fetch(run, recipe_for(site, local_failures_after=4, max_local_failures=1.0))
    assert rounds_of(run) == {ident(i): [(0, "tls"), (1, "tls"), (2, "tls")] for i in range(12)}


def test_tls_is_the_servers_own_where_nothing_was_stopped(ray_cluster, site, run):
    select(run, ["https://bad.test/0.jpg", *photos(3)])
    fetch(run, recipe_for(site))
    assert rounds_of(run)[ident(0)] == [(0, "tls")]


def test_dead_links_never_stop_the_fetch(ray_cluster, site, run):
    select(run, photos(8))
    site.pages = {f"/{i}.jpg": lambda nth: (404, b"", {}) for i in range(8)}
    site.pages.pop("/7.jpg")
    info = fetch(run, recipe_for(site, local_failures_after=1, max_local_failures=0.0))
    assert info["failed"] == {"http_404": 7} and info["taken"] == 1


def test_stopping_ends_the_tasks_that_are_under_way(ray_cluster, site, run, monkeypatch):
    def slow(run, number, part, items, settings, hosts):
        if part:
            time.sleep(120)
        failures = dict.fromkeys([identifier for identifier, _ in items], "dns")
        return PartSummary({"dns": len(items)}, failures, 0, {"a.test": "dns: x"})

    monkeypatch.setattr(rounds_module, "fetch_part", slow)
    select(run, photos(12))
    with pytest.raises(FetchStopped, match="names do not resolve"):
        fetch(run, recipe_for(site, local_failures_after=4))
    everything = ray.remote(lambda: None).options(num_cpus=int(ray.cluster_resources()["CPU"]))
    ray.get(everything.remote(), timeout=60)  # no task is left that sleeps on a CPU


def test_a_stop_in_the_last_round_gets_one_more(run):
    recipe = recipe_for(None, rounds=2)
    assert rounds_module._rounds(run, recipe, again=False) == [0, 1]
    run.write_json("fetched/stopped-01.json", {})
    assert rounds_module._rounds(run, recipe, again=False) == [0, 1, 2]
