"""The harness of `make chaos` itself: the store fails as it says, kills are spread, and what differs is told."""

from __future__ import annotations

import io
import random
import re
from collections import Counter

import pytest
import s3fs

from common.failures import transient
from common.storage import Storage
from tests.chaos.comparison import differences, kind_of
from tests.chaos.faulty_store import Faults, FaultyStore, faulty_bucket
from tests.chaos.kills import STEPS, Place, draw_kills, spoke_last


def test_a_storage_gets_through_a_store_that_refuses_cuts_and_loses():
    # undone before the bucket's own environment is, or that would come back
    with (
        faulty_bucket("chaos-of-a-test", Faults(slowest=0, cut=3, lost=4)) as (store, environment),
        pytest.MonkeyPatch.context() as monkeypatch,
    ):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        monkeypatch.setattr(transient, "FIRST_WAIT", 0.01)
        s3fs.S3FileSystem.clear_instance_cache()
        storage = Storage("s3://chaos-of-a-test/run")
        data = {f"folder/{number}.bin": bytes([number]) * 3000 for number in range(4)}
        for path, content in data.items():
            assert storage.write_new(path, content), "its own file, where the answer was lost"
            assert not storage.write_new(path, b"another")
        assert {path: storage.read_bytes(path) for path in storage.glob("folder/*")} == data
        assert Place(storage.root, store).files(r"folder/[0-1]\.bin") == sorted(data)[:2]
        counts = store.counts
    assert counts["refused"] == counts["requests"] // 3 > 5
    assert counts["cut"] and counts["lost"]


def test_every_third_is_refused_and_not_carried_out():
    carried = []

    def behind(environ, start_response):
        carried.append(environ["PATH_INFO"])
        start_response("200 OK", [])
        return [b"body"]

    store, said = FaultyStore(behind, faults=Faults(cut=2, slowest=0)), []
    bodies = []
    for number in range(6):
        asked = {"REQUEST_METHOD": "GET", "PATH_INFO": f"/b/{number}", "wsgi.input": io.BytesIO()}
        bodies.append(b"".join(store(asked, lambda status, _: said.append(status[:3]))))
    assert said == ["200", "200", "503"] * 2
    assert carried == ["/b/0", "/b/1", "/b/3", "/b/4"]
    assert [body for body in bodies if b"SlowDown" not in body] == [b"body", b"bo", b"body", b"bo"]


@pytest.mark.parametrize(
    ("step", "title", "counts"),
    [("fetch", "ray::fetch_part", True), ("fetch", "ray::Hosts", False), ("pack", "ray::IDLE", False),
     ("score", "ray::MapWorker(Map(ScoringOperator)).submit", True), ("score", "ray::MapWorker(Map(ScoringOperator))", False),
     ("score", "ray::MapWorker(Map(ScoringOperator)).__init__", False), ("annotate", "ray::<lambda>", True)],
)  # fmt: skip
def test_who_waits_or_loads_a_model_is_not_at_work(step, title, counts):
    assert bool(re.fullmatch(STEPS[step].titles, title)) == counts


@pytest.mark.parametrize("number", [1, 4, 20])
def test_kills_are_spread_over_steps_and_kinds(number):
    kills = draw_kills(number, random.Random(0))
    steps, kinds = Counter(kill.step for kill in kills), Counter(kill.kind for kill in kills)
    assert len(kills) == number and max(steps.values()) - min(steps[name] for name in STEPS) <= 1
    if number == 20:
        assert kinds == {"raylet": 3, "worker": 8, "driver": 9}
    assert kills == draw_kills(number, random.Random(0)) != draw_kills(number, random.Random(1))


def test_what_differs_from_the_undisturbed_run_is_told():
    expected = {"00000.tar": "a", "00000.json": "b"}
    assert differences(dict(expected), expected) == []
    assert differences({"00000.tar": "other", "00001.tar": "c"}, expected) == [
        "shards, missing: 00000.json",
        "shards, not in the undisturbed run: 00001.tar",
        "shards, other bytes: 00000.tar",
    ]


def test_files_are_of_a_kind_whatever_their_numbers_and_hashes():
    assert kind_of("fetched/00/00003-5dd050b2ca258c4d.tar") == kind_of("fetched/01/00000-68c243b5535b9aa3.tar")
    assert kind_of("scores/faces-57b21684ba08/00-00001.parquet") != kind_of(
        "scores/faces-57b21684ba08/00-00001-1.parquet"
    )
    assert kind_of("cuts/small/.plan.parquet.0e92.tmp") != kind_of("cuts/small/plan.parquet")


def test_the_step_that_spoke_last_is_known():
    log = "   fetch  snapshot 46b1: 66 taken\n   score  4 of 66 images, measuring\nwarning: something of a library\n"
    assert spoke_last(log) == ("score", "score  4 of 66 images, measuring")
    assert spoke_last("") == ("", "")
