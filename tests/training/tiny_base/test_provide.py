"""Who trains without a base has one made, and sees how far it is."""

from __future__ import annotations

from pathlib import Path

from training.recipe import load_recipe
from training.tiny_base import provide


def test_the_minutes_in_which_a_base_is_trained_are_shown(monkeypatch, capsys):
    def trained(config, photos, report):
        report("vae", 1, 2, "loss 1.000")
        report("vae", 2, 2, "loss 0.500")
        return photos / "made"

    monkeypatch.setattr(provide, "provide", trained)
    recipe = load_recipe("tiny").model_copy(update={"base": None})
    assert provide.with_base(recipe, lambda: Path("photos")).base == "photos/made"
    assert "2 steps in 0 s loss 0.500" in " ".join(capsys.readouterr().err.split())
