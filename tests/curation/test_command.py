"""What jobs/curate.py sends to a cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation import command
from curation.command import CurateOptions, submit

RECIPE = Path(command.__file__).parent / "recipe" / "sample.yaml"


@pytest.fixture
def sent(monkeypatch):
    jobs = []
    monkeypatch.setattr(command, "run_on_cluster", lambda *job: jobs.append(job) or 7)
    return jobs


def test_a_job_gets_the_same_options_and_the_text_of_the_recipe(sent, monkeypatch):
    monkeypatch.setenv("SOMEWHERE", "s3://bucket")  # the recipe does not use it: it stays here
    assert (
        submit(CurateOptions(str(RECIPE), "/r", "strict", ["seed=4", "score.workers=2"], again=True), "http://h") == 7
    )
    words = (
        "python jobs/curate.py --recipe sample.yaml --run /r --name strict --set seed=4 --set score.workers=2 --again"
    )
    ((cluster, sent_job),) = sent
    assert (cluster, sent_job.command, sent_job.recipe) == ("http://h", words.split(), RECIPE.read_text())
    assert sent_job.works_on == "curate /r" and "SOMEWHERE" not in sent_job.environment


def test_variables_of_the_recipe_go_with_it(sent, monkeypatch, tmp_path):
    monkeypatch.setenv("SOMEWHERE", "s3://bucket")
    path = tmp_path / "mine.yaml"
    path.write_text(RECIPE.read_text().replace("${CACHE}", "${SOMEWHERE}"))
    submit(CurateOptions(str(path), "s3://bucket/run"), "http://h")
    assert sent[0][1].environment == {"SOMEWHERE": "s3://bucket"}


def test_a_recut_has_the_recipe_of_its_run(sent):
    submit(CurateOptions("none.yaml", "/r", "strict", recut=True), "http://h")
    words = "python jobs/curate.py --recipe none.yaml --run /r --name strict --recut"
    ((_, sent_job),) = sent
    assert (sent_job.command, sent_job.recipe, sent_job.environment) == (words.split(), None, {})
