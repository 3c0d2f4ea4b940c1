"""What needs no Ray and no network: two tasks on one part, and a command that has nothing to do."""

from __future__ import annotations

import tarfile

import pytest

import curation.fetch.part as part_module
from curation import __main__ as command
from curation.fetch.part import fetch_part, lost_part
from curation.recipe.recipe import Fetch
from curation.run_directory.run import Run
from curation.run_directory.schemas import SnapshotCounts
from curation.versions import RUN_FORMAT
from tests.curation.fetch.fetch_site import ident, photos, recipe_for, select


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "run")


def test_of_two_tasks_on_one_part_the_first_to_commit_stays(run, monkeypatch):
    items = [(ident(i), url) for i, url in enumerate(photos(2))]

    def overtaken(folder, part, *_):
        with tarfile.open(folder / f"{part:05d}.tar", "w"):
            pass
        lost_part(run, 0, 0, items, "the other's")
        return ""

    monkeypatch.setattr(part_module, "_download", overtaken)
    result = fetch_part(run, 0, 0, items, Fetch(), None)
    assert run.read_table("fetched/00/00000.parquet")["tar"].null_count == 2, "its rows never name this task's tar"
    assert set(run.read_table("fetched/00/00000.parquet")["detail"].to_pylist()) == {"the other's"}
    assert result.counts == {"lost_by_downloader": 2}
    # and a task that starts after the commit does not download at all
    monkeypatch.setattr(part_module, "_download", None)
    assert fetch_part(run, 0, 0, items, Fetch(), None) == result


def test_a_fetch_that_is_done_starts_no_ray(run, monkeypatch, capfd):
    select(run, photos(2))
    recipe = recipe_for(None).model_dump(mode="json") | {"filters": {"faces": {"stand_in": "centerface"}}}
    run.update_manifest(recipe=recipe, format=RUN_FORMAT)
    counts = SnapshotCounts(number=0, selected=2, fetched=2, taken=2, surplus=0, failed={}, lost=0, hash="5")
    run.write_json("fetched/snapshot.json", counts)
    monkeypatch.setattr(command, "connected", None)
    assert command.main(["fetch", run.root]) == 0
    assert "done before: 2 images; 0 requests" in capfd.readouterr().err
