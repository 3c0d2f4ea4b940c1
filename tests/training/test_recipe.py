"""A recipe is right before anything starts, or says which field is wrong and what would be right."""

from __future__ import annotations

import pytest

from training.recipe import Optimiser, RecipeError, load_recipe


def test_the_recipes_that_ship_are_whole():
    default, authors, tiny = (load_recipe(name) for name in ("default", "authors", "tiny"))
    assert default.objective.drop.face and default.saving.ema and default.objective.min_snr_gamma
    drop = authors.objective.drop
    assert (drop.clip, drop.text, drop.face, drop.everything) == (0.5, 0, 0, 0)
    assert authors.saving.ema is None and authors.objective.min_snr_gamma is None and authors.optimiser.clip == 0
    assert tiny.model == "tiny" and tiny.engine.dtype == "fp32"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("engine.zreo=3", "did you mean `zero`"),
        ("engine.zero=4", "engine.zero"),
        ("batch.size", "write it as FIELD=VALUE"),
        ("objective.drop.text=2", "objective.drop.text"),
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
    assert load_recipe("tiny", ["optimiser.rate=0.5", "saving.ema=null"]).optimiser.rate == 0.5
    assert load_recipe("tiny", ["saving.ema=null"]).saving.ema is None


def test_the_rate_grows_from_nothing_and_falls_to_nothing():
    options = Optimiser(rate=1.0, warmup=10, schedule="cosine")
    rates = [options.rate_at(step, 110) for step in range(111)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == rates[10] == 1.0
    assert rates[60] == pytest.approx(0.5) and rates[110] == pytest.approx(0.0)
    assert all(one >= other for one, other in zip(rates[10:], rates[11:], strict=False))
    assert Optimiser(rate=1.0, warmup=0, schedule="constant").rate_at(99, 100) == 1.0
