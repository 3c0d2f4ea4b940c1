"""The fetch step on a real Ray, against a server on 127.0.0.1 that counts what it is asked for."""

from __future__ import annotations

import json
from collections import Counter
from urllib.parse import quote

import pyarrow.compute as pc
import pytest
import ray

from common.hashing import sha256_of_bytes
from common.settings import RecipeError
from curation.fetch import rounds
from curation.fetch.rounds import fetch, web_journal
from curation.run_directory.attempts import latest_attempts
from curation.run_directory.driver import only_driver
from curation.run_directory.run import Run
from curation.run_directory.snapshot import latest_counts, read_snapshot
from curation.sample.web import LocalWeb, RequestLog
from tests.curation.fetch.fetch_site import ident, photos, recipe_for, rounds_of, select
from tests.servers.bucket import s3_bucket
from tests.servers.loopback_web import JPEG

ODD = "http://photos.test/a b/küche.jpg?q=ü x"
OK = 200, JPEG, {}


def test_each_id_is_a_row_and_only_what_can_heal_is_tried_again(ray_cluster, site, run):
    urls = photos(14)
    urls[3], urls[9], urls[10], urls[12] = ODD, "http://exa mple/", "http://10.0.0.1/a.jpg", "http://photos.test/noai"
    select(run, urls)
    site.pages = {
        "/1.jpg": lambda nth: (404, b"", {}),
        "/2.jpg": lambda nth: (503, b"", {}) if nth < 2 else OK,
        "/4.jpg": lambda nth: (502, b"", {}),
        "/5.jpg": lambda nth: (200, b"<html>", {}),
        "/6.jpg": lambda nth: (200, b"", {}),
        "/7.jpg": lambda nth: (200, JPEG, {"Content_Length": "99999", "Connection": "close"}) if nth < 3 else OK,
        "/11.jpg": lambda nth: (403, b"", {}),
        "/noai": lambda nth: (200, JPEG, {"X_Robots_Tag": "noai"}),
    }
    info = fetch(run, recipe_for(site, "metadata"))

    attempts = rounds_of(run)
    assert attempts == {
        **{ident(i): [(0, "success")] for i in (0, 3, 8, 13)},
        ident(1): [(0, "http_404")],
        ident(2): [(0, "http_503"), (1, "success")],
        ident(4): [(0, "http_502"), (1, "http_502"), (2, "http_502")],
        ident(5): [(0, "not_an_image")],
        ident(6): [(0, "empty_body")],
        ident(7): [(0, "truncated_body"), (1, "truncated_body"), (2, "success")],
        ident(9): [(0, "bad_url")],
        ident(10): [(0, "refused_address")],
        ident(11): [(0, "http_403")],
        ident(12): [(0, "opted_out_header")],
    }
    sent_odd = quote("/a b/küche.jpg?q=ü x", safe="/?=")
    assert Counter(site.seen) == {
        **{f"/{i}.jpg": 1 for i in (0, 1, 5, 6, 8, 11, 13)},
        **{"/2.jpg": 2, "/4.jpg": 3, "/7.jpg": 3, "/noai": 1, sent_odd: 1},
    }  # fmt: skip

    columns = ["url", "status", "http_status", "final_url"]
    rows = {row["id"]: row for part in latest_attempts(run, columns) for row in part.to_pylist()}
    assert list(rows) == [ident(i) for i in range(14)]
    assert rows[ident(3)]["url"] == ODD and rows[ident(3)]["final_url"] == f"http://photos.test{sent_odd}"
    assert (rows[ident(1)]["status"], rows[ident(1)]["http_status"]) == ("failed", 404)

    stored = latest_counts(run)
    snapshot = read_snapshot(run, stored)
    assert stored == info and info["taken"] == 6 and info["surplus"] == 0 and info["lost"] == 0
    assert info["selected"] == info["fetched"] + sum(info["failed"].values()) + info["lost"] == 14
    assert info["failed"] == dict.fromkeys(
        (
            "bad_url",
            "empty_body",
            "http_403",
            "http_404",
            "http_502",
            "not_an_image",
            "opted_out_header",
            "refused_address",
        ),
        1,
    )
    for row in snapshot.to_pylist():  # the bytes are where the snapshot says
        data = run.read_bytes(row["tar"], row["offset"], row["size"])
        assert sha256_of_bytes(data) == row["sha256"]
        assert data == (JPEG if row["id"] in (ident(2), ident(7)) else JPEG + data[len(JPEG) :])
        digest = sha256_of_bytes(run.read_bytes(row["tar"]))
        assert row["tar"] == f"fetched/{row['unit'].replace('-', '/')}-{digest[:16]}.tar"
    lines = "".join(f"{row['id']} {row['sha256']}\n" for row in snapshot.to_pylist())
    assert info["hash"] == sha256_of_bytes(lines.encode())[:16]
    assert not run.exists("work/fetch")


def test_a_second_run_asks_for_nothing_and_again_only_for_what_heals(ray_cluster, site, run, capfd):
    select(run, photos(6))
    site.pages = {"/1.jpg": lambda nth: (404, b"", {}), "/2.jpg": lambda nth: (500, b"", {})}
    first = fetch(run, recipe_for(site, rounds=1))
    assert first["fetched"] == 4
    asked = len(site.seen)

    assert fetch(run, recipe_for(site)) == first
    assert "0 requests" in capfd.readouterr().err and len(site.seen) == asked

    assert fetch(run, recipe_for(site), again=True) == first  # still down
    assert "nothing healed" in capfd.readouterr().err
    assert site.seen[asked:] == ["/2.jpg"] and run.glob("fetched/snapshot*.json") == ["fetched/snapshot.json"]

    site.pages = {}
    healed = fetch(run, recipe_for(site), again=True)
    assert site.seen[asked:] == ["/2.jpg", "/2.jpg"]
    assert healed["number"] == 1 and healed["fetched"] == 5 and healed["hash"] != first["hash"]
    assert latest_counts(run) == healed and ident(2) in read_snapshot(run, healed)["id"].to_pylist()
    assert run.exists(f"fetched/snapshot-0001-{healed['hash']}.parquet")
    assert run.read_json("fetched/snapshot.json") == first  # what was frozen stays

    assert fetch(run, recipe_for(site), again=True) == healed
    assert len(site.seen) == asked + 2


def test_a_killed_round_goes_on_with_the_parts_that_are_missing(ray_cluster, site, run):
    select(run, photos(10))
    whole = fetch(run, recipe_for(site))
    # what a SIGKILL leaves: a part's tar without its parquet (here a torn one), no snapshot, an unfinished download
    for path in ("00/00001.parquet", f"snapshot-{whole['hash']}.parquet", "snapshot.json"):
        run.fs.rm(run.path(f"fetched/{path}"))
    run.write_bytes("fetched/00/00001-0123456789abcdef.tar", b"torn")
    run.write_bytes("work/fetch/00-00001-x/00001.tar", b"torn")
    site.seen.clear()

    resumed = fetch(run, recipe_for(site, part_size=3))  # another size: the round keeps the parts that it began with
    assert sorted(site.seen) == [f"/{i}.jpg" for i in range(4, 8)]
    assert resumed == whole
    row = read_snapshot(run, latest_counts(run)).filter(pc.field("id") == ident(4)).to_pylist()[0]
    assert run.read_bytes(row["tar"], row["offset"], row["size"]) == JPEG + b"/4.jpg"
    assert not run.exists("work/fetch")


def test_the_surplus_is_cut_by_rank(ray_cluster, site, run):
    select(run, photos(6), wanted=3, ranks=[5, 4, 0, 3, 2, 1])
    site.pages = {"/2.jpg": lambda nth: (404, b"", {})}  # the best one cannot be had
    info = fetch(run, recipe_for(site))
    assert (info["fetched"], info["taken"], info["surplus"]) == (5, 3, 2)
    assert read_snapshot(run, latest_counts(run))["id"].to_pylist() == [ident(3), ident(4), ident(5)]


def test_mistakes_are_said_before_any_request(site, run):
    with pytest.raises(RecipeError, match="curation select"):
        fetch(run, recipe_for(site))
    select(run, photos(2))
    with pytest.raises(RecipeError, match="127.0.0.1: loopback"):
        fetch(run, recipe_for(site, allow_networks=[]))
    with pytest.raises(RecipeError, match="host:port"):
        fetch(run, recipe_for(site, resolve={"photos.test": "127.0.0.1:80"}))
    assert site.seen == [] and not run.exists("fetched")


@pytest.mark.parametrize(("elsewhere", "address"), [(False, "127.0.0.1"), (True, "127.0.0.2")])
def test_the_samples_web_runs_where_all_nodes_reach_it_while_it_fetches(
    ray_cluster, run, tmp_path, monkeypatch, elsewhere, address
):
    """With nodes on other machines: at the address of the driver's, which the test says is another loopback one."""
    listening = []

    class NotedWeb(LocalWeb):
        def __enter__(self):
            listening.append(self._address)
            return super().__enter__()

    monkeypatch.setattr("curation.sample.web.LocalWeb", NotedWeb)
    monkeypatch.setattr(rounds, "are_elsewhere", lambda nodes: elsewhere)
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "127.0.0.2")
    folder = tmp_path / "sample"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(JPEG)
    pages = {f"http://h{i}.test/{i}.jpg": {"do": "file", "file": "a.jpg", "type": "image/jpeg"} for i in range(3)}
    (folder / "behaviour.json").write_text(json.dumps({"urls": pages}))
    select(run, [*pages, "http://down.test/x.jpg"])
    recipe = recipe_for(None, local_web={"folder": str(folder)}, rounds=1, allow_networks=["127.0.0.1"])
    info = fetch(run, recipe)
    assert listening == [address]
    assert info["fetched"] == 3 and info["failed"] == {"connection": 1}
    asked = run.read_bytes("work/web-journal").decode().splitlines()
    assert sorted(url for url in asked if url in pages) == sorted(pages)
    rules = [url for url in asked if url not in pages]
    assert len(rules) == len(set(rules)) == 6, "each site is asked for its rules once"


def test_a_driver_that_goes_on_after_a_kill_has_the_web_count_on_from_there_also_for_a_bucket(tmp_path, monkeypatch):
    monkeypatch.setenv("FACEMAKEUP_CACHE", str(tmp_path / "cache"))
    with s3_bucket("journals"):
        journals = []
        for place in ("s3://journals/a", "s3://journals/a", "s3://journals/b"):
            with only_driver(Run(place)):
                journals.append(web_journal(Run(place)))
    assert journals[0] == journals[1] != journals[2]
    for journal, first in zip(journals, (1, 2, 1), strict=True):
        log = RequestLog(journal)
        assert log.add("http://heals.test/") == first
        log.close()
