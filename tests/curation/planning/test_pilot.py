"""A real pilot over the small world, as a user starts it: a forecast in words, as JSON, and for the run that follows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from curation.__main__ import main
from curation.pipeline import STEPS
from curation.planning.facts import read_facts
from curation.progress.follow import Follower
from curation.run_directory.run import Run

IMAGES = 50


@pytest.fixture(scope="module")
def planned(small_world: Path, ray_cluster: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory that only has a forecast."""
    root = tmp_path_factory.mktemp("planned") / "run"
    recipe = str(small_world / "recipe.yaml")
    assert main(["plan", str(root), "--recipe", recipe, "--pilot", str(IMAGES), "--cores", "4"]) == 0
    return root


def test_every_step_has_its_figures(planned: Path, finished: Path):
    told = json.loads((planned / "forecast.json").read_text())
    assert [step["step"] for step in told["steps"]] == list(STEPS)
    assert told["pilot_images"] == IMAGES and told["target"]["cores"] == 4 and told["neck"] in STEPS
    for step in told["steps"]:
        for name in ("images", "core_hours", "hours", "dollars"):
            span = step[name]
            assert 0 <= span["low"] <= span["value"] <= span["high"], (step["step"], name)
        assert step["core_hours"]["value"] > 0
    # the pilot was of half the images of this run, which is another one of the same world
    facts = read_facts(Run(finished), "small")
    by_step = {step["step"]: step["images"] for step in told["steps"]}
    assert by_step["select"]["value"] == len(facts)
    for step, count in (("fetch", facts.fetched.sum()), ("annotate", facts.kept.sum())):
        slack = by_step[step]["high"] - by_step[step]["low"]
        assert by_step[step]["low"] - slack <= count <= by_step[step]["high"] + slack, step
    assert 0 < told["living"]["low"] < told["living"]["high"] < 1 and "links live" in told["selection"]


def test_nothing_else_is_left_and_the_run_that_follows_knows_it(planned: Path):
    assert [path.name for path in planned.iterdir()] == ["forecast.json"]
    run = Run(planned)
    run.write_json(
        "selected/counts.json",
        {
            "candidates": 130,
            "wanted": 80,
            "selected": 100,
            "key": "box_min_side",
            "rank_over": "available",
            "cutoff": 1.0,
            "digest": "0",
        },
    )
    with Follower(run, "small", STEPS) as follower:
        follower.begin("score")
        told = follower.progress()
        assert {step.basis for step in told.left} <= {"forecast", "default"} and told.seconds_left > 0
        assert told.current.basis == "forecast"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--pilot", "5"], "PILOT=5: of fewer than 20 images"),
        (["--cores", "0"], "CORES=0: it must be more than 0"),
        (["--gpus", "-1"], "GPUS=-1: it must not be negative"),
        (["--price", "nothing.yaml"], "nothing.yaml: cannot be read"),
    ],
)
def test_what_cannot_be_is_said_before_any_work(small_world: Path, capsys, options: list[str], message: str):
    assert main(["plan", "--recipe", str(small_world / "recipe.yaml"), *options]) == 2
    assert message in capsys.readouterr().err.replace("\n", " ")
