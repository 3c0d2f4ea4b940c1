"""What the train command says at the end of a run, and the recipe that it sends along with a job."""

from __future__ import annotations

import base64

from common.cluster.environment import RECIPE_VARIABLE
from training.launch.command import TrainOptions, _say_how_it_ended
from training.recipe import load_recipe, submitted_recipe


def test_at_the_end_it_says_where_everything_is_and_what_to_do_next(capsys):
    _say_how_it_ended(TrainOptions("tiny", "runs/train/mine"), load_recipe("tiny"), 600)
    said = " ".join(capsys.readouterr().err.split())
    for place in ("log.jsonl", "tensorboard", "run.html", "pictures", "export"):
        assert f"runs/train/mine/{place}" in said
    assert said.endswith("make demo MODEL=runs/train/mine/export/pipeline")
    _say_how_it_ended(TrainOptions("tiny", "s3://b/my"), load_recipe("tiny"), 600)
    assert "copy s3://b/my/export/pipeline to a disk" in capsys.readouterr().err
    _say_how_it_ended(
        TrainOptions("tiny", "out", ["saving.export=false"]), load_recipe("tiny", ["saving.export=false"]), 600
    )
    assert capsys.readouterr().err.endswith("--recipe tiny --out out --failures 3 --set saving.export=false --export\n")


def test_a_run_that_was_stopped_says_how_to_go_on(capsys):
    options = TrainOptions("my.yaml", "out", ["engine.zero=3", "seed=1"], ranks=2, failures=1)
    _say_how_it_ended(options, load_recipe("tiny"), 7)
    said = " ".join(capsys.readouterr().err.split())
    assert "stopped as asked: step 7 of 600 is saved in out/checkpoints" in said
    command = "python jobs/train.py --recipe my.yaml --out out --failures 1 --set engine.zero=3 --set seed=1 --ranks 2"
    assert command in said


def test_a_job_trains_the_recipe_that_came_with_it(monkeypatch):
    assert submitted_recipe() is None
    recipe = load_recipe("tiny", ["seed=7", "engine.zero=1"])
    monkeypatch.setenv(RECIPE_VARIABLE, base64.b64encode(recipe.model_dump_json().encode()).decode())
    assert submitted_recipe() == recipe
