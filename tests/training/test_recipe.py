"""A recipe is right before anything starts, or says which field is wrong and what would be right."""

from __future__ import annotations

import pytest

from training.recipe import RENAMED, Optimiser, RecipeError, checked, for_workers, load_recipe, with_current_names


def test_the_recipes_that_ship_are_whole():
    default, authors, tiny = (load_recipe(name) for name in ("default", "authors", "tiny"))
    assert default.objective.condition_dropout.face and default.saving.ema and default.objective.min_snr_gamma
    dropout = authors.objective.condition_dropout
    assert (dropout.clip_features, dropout.text, dropout.face, dropout.everything) == (0.5, 0, 0, 0)
    assert (
        authors.saving.ema is None and authors.objective.min_snr_gamma is None and authors.optimiser.max_grad_norm == 0
    )
    assert tiny.model == "tiny" and tiny.engine.dtype == "fp32"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("engine.zreo=3", "did you mean `zero`"),
        ("engine.zero=4", "engine.zero"),
        ("batch.size", "write it as FIELD=VALUE"),
        ("objective.condition_dropout.text=2", "objective.condition_dropout.text"),
        ("engine={zero: 3, compile: true}", "compile does not go with zero: 3"),
        ("engine={compile: true, gradient_checkpointing: true}", "gradient_checkpointing"),
        ("engine={zero: 0, dtype: bf16}", "no fp32 masters"),
        ("engine={zero: 0, dtype: fp32, offload_optimiser: true}", "offload_optimiser needs"),
        ("engine={zero: 2, offload_parameters: true}", "offload_parameters needs zero: 3"),
    ],
)
def test_what_cannot_be_is_refused_in_words(change, words):
    with pytest.raises(RecipeError, match=words):
        load_recipe("default", [change])


def test_a_change_reaches_its_field():
    assert load_recipe("tiny", ["optimiser.lr=0.5", "saving.ema=null"]).optimiser.lr == 0.5
    assert load_recipe("tiny", ["saving.ema=null"]).saving.ema is None


def test_the_rate_grows_from_nothing_and_falls_to_nothing():
    options = Optimiser(lr=1.0, warmup_steps=10, schedule="cosine")
    rates = [options.lr_at(step, 110) for step in range(111)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == rates[10] == 1.0
    assert rates[60] == pytest.approx(0.5) and rates[110] == pytest.approx(0.0)
    assert all(one >= other for one, other in zip(rates[10:], rates[11:], strict=False))
    assert Optimiser(lr=1.0, warmup_steps=0, schedule="constant").lr_at(99, 100) == 1.0


# as a checkpoint's manifest of 2026-11-26 has it: the authors' recipe, all fields written out
OLD = {
    "name": "authors", "model": "sd15", "base": None, "start_from": None, "seed": 0, "steps": 530000,
    "data": {"shards": "runs/facecaptionhq-4m/shards/facecaptionhq-4m", "cache": None, "cache_gb": None,
             "cached": "auto", "workers": 6, "prefetch": 4, "corrupt_share": 0.001},
    "batch": {"size": 64, "micro": 8, "lanes": 64, "window": 8},
    "objective": {"min_snr_gamma": None, "noise_offset": 0.0, "drop": {
        "text": 0.0, "face": 0.0, "everything": 0.0, "identity": 0.0, "clip": 0.5, "pose": 0.0}},
    "optimiser": {"rate": 0.0001, "betas": [0.9, 0.999], "eps": 1e-08, "weight_decay": 0.01, "clip": 0.0, "warmup": 0,
                  "schedule": "constant"},
    "engine": {"zero": 2, "dtype": "bf16", "device": "auto", "offload_optimiser": False, "offload_parameters": False,
               "gradient_checkpointing": False, "channels_last": True, "compile": False, "deterministic": False},
    "saving": {"every": 2000, "keep": 3, "export": True, "ema": None},
    "seeing": {"log_every": 20, "validate_every": 2000, "panel": 16, "drawing_steps": 30, "collapse": 3.0,
               "profile": 0},
}  # fmt: skip


def test_an_earlier_versions_recipe_in_a_checkpoint_is_read_with_todays_names():
    assert checked(with_current_names(OLD), "a manifest") == load_recipe("authors")
    today = load_recipe("authors").model_dump(mode="json")
    assert with_current_names(today) == today and "seeing" in OLD


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_a_field_under_its_old_name_is_refused_with_the_new_one(old, new):
    with pytest.raises(RecipeError, match=f"{old}: is now called `{new}`"):
        load_recipe("tiny", [f"{old}=1"])


def test_every_new_name_is_a_field():
    tree = load_recipe("tiny").model_dump()
    for name in RENAMED.values():
        place = tree
        for part in name.split("."):
            place = place[part]


def test_paths_for_workers_are_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("name: mine")
    (tmp_path / "shards").mkdir()
    changes = [
        "model=mine.yaml",
        "data.shards=shards",
        "data.shard_cache=later/made",
        "base=hub/name",
        "start_from=s3://b/c",
    ]
    tree = for_workers(load_recipe("tiny", changes))
    assert tree["model"] == f"{tmp_path}/mine.yaml" and tree["data"]["shards"] == f"{tmp_path}/shards"
    assert tree["data"]["shard_cache"] == f"{tmp_path}/later/made"
    assert (tree["base"], tree["start_from"]) == ("hub/name", "s3://b/c")
    assert for_workers(load_recipe("tiny", ["data.shards=s3://b/s"]))["data"]["shards"] == "s3://b/s"
    assert for_workers(load_recipe("tiny"))["model"] == "tiny"
