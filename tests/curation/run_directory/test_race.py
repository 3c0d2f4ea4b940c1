"""What decides is decided once, however two drivers race: against a store whose conditional PUT is atomic."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

from curation.packing.pack import make_plan
from curation.recipe.recipe import Recipe, parse
from curation.run_directory.candidates import id_texts
from curation.run_directory.run import Run
from tests.curation.run_directory.test_driver import DRIVES
from tests.curation.run_directory.test_driver import ROOT as PROJECT
from tests.servers.atomic_store import atomic_store

WRITERS, FILES = 8, 40
ROOT = "s3://shared/run"


@pytest.fixture
def store():
    with atomic_store() as server:
        yield server


def decide(files: int) -> list[list[bool]]:
    """What each of several writers hears when all create the same files at the same moment, each with its own bytes."""
    ready = threading.Barrier(WRITERS)

    def writer(number: int) -> list[bool]:
        run, heard = Run(ROOT), []
        for file in range(files):
            ready.wait()
            heard.append(run.write_new(f"decisions/{file}", str(number).encode()))
        return heard

    with ThreadPoolExecutor(WRITERS) as pool:
        return list(pool.map(writer, range(WRITERS)))


def test_of_many_writers_exactly_one_is_first(store):
    heard = decide(FILES)
    for file in range(FILES):
        (first,) = (number for number in range(WRITERS) if heard[number][file])
        assert store.objects[f"/shared/run/decisions/{file}"] == str(first).encode()


def test_a_put_that_was_sent_again_after_it_had_succeeded_is_ones_own(store):
    store.lose_every = 5
    heard = decide(FILES)
    assert store.puts > WRITERS * FILES, "answers were lost, and requests sent again"
    for file in range(FILES):
        assert [heard[number][file] for number in range(WRITERS)].count(True) == 1
        (first,) = (number for number in range(WRITERS) if heard[number][file])
        assert store.objects[f"/shared/run/decisions/{file}"] == str(first).encode()


def test_of_two_drivers_in_the_same_second_one_drives_and_the_other_is_told(store):
    command = [sys.executable, "-c", DRIVES, ROOT, "4"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PROJECT) for _ in range(2)]
    said = sorted(process.communicate(timeout=120)[0] for process in both)
    assert said[1] == "drives\ndone\n"
    assert said[0].startswith("RunInUse") and "has a driver already" in said[0]
    assert [key for key in store.objects if key.endswith(".json")] == ["/shared/run/drivers/000001.json"]


def planned(run: Run, recipe: Recipe, kept: list[str], epoch: int) -> list[str]:
    """What a driver that has cut and annotated takes for the plan."""
    folder = f"cuts/c/verdicts/{epoch:06d}-000"
    rows = {"id": kept, "unit": ["00-00000"] * len(kept), "verdict": ["kept"] * len(kept), "face": [0] * len(kept)}
    table = pa.table({**rows, "caption_face": rows["face"]})
    for name in ("face", "caption_face"):
        table = table.set_column(table.column_names.index(name), name, table[name].cast(pa.int32()))
    unit = table["unit"].dictionary_encode()
    run.write_table(f"{folder}/00000.parquet", table.set_column(1, "unit", unit))
    funnel = {"taken": len(kept), "kept": len(kept), "rejected": 0, "undecodable": 0, "undecided": 0, "scores": ""}
    run.write_json(f"{folder}/funnel.json", funnel)
    run.write_json("cuts/c/no_identity.json", {"verdicts": folder, "ids": []})
    return id_texts(make_plan(run, recipe, "c")["id"].to_numpy()).to_pylist()


def test_a_driver_whose_put_was_under_way_when_it_was_overtaken_takes_the_others_decision(store):
    """The loser looked, saw no plan, and its PUT reaches the store after the winner's: nothing may change by it."""
    recipe = parse({"name": "c", "sources": {"facecaption": ["x"]}, "select": {"count": 1}})
    store.hold = "/shared/run/cuts/c/plan.parquet"
    with ThreadPoolExecutor(1) as pool:
        overtaken = pool.submit(planned, Run(ROOT), recipe, ["a" * 16], 1)
        assert store.held.wait(30)
        assert planned(Run(ROOT), recipe, ["a" * 16, "b" * 16], 2) == ["a" * 16, "b" * 16]
        decided = store.objects["/shared/run/cuts/c/plan.parquet"]
        store.go_on.set()
        assert overtaken.result(30) == ["a" * 16, "b" * 16], "the loser goes by what was decided"
    assert store.objects["/shared/run/cuts/c/plan.parquet"] == decided
