"""All metrics in one command, each by its own model: tiny ones with random weights, and the real face detector and dlib."""

from __future__ import annotations

import csv

import pandas as pd
import pytest

from evaluation.__main__ import main
from evaluation.metrics import registry
from evaluation.metrics.networks import image_text
from tests.evaluation.twins import attribute_twin, clip_twin, dino_twin, inception_twin
from tests.evaluation.vlm_twins import qwen_twin

# of pictures that are the references themselves
KNOWN = {
    "CLIP-I": 1, "DINO": 1, "FaceSim, dlib": 1, "face found": 1, "pose: yaw apart": 0, "pose: roll apart": 0,
    "Attr agreement": 1, "Attr agreement, balanced": 1,
}  # fmt: skip


def test_copies_have_the_figures_of_copies_by_every_model(sets, tmp_path, monkeypatch):
    monkeypatch.setattr(image_text, "LONGEST", 4)
    makers = {
        "clip": clip_twin, "dino": dino_twin, "inception": inception_twin, "attributes": attribute_twin, "vlm": qwen_twin
    }  # fmt: skip
    assert set(makers) == set(registry.ROLES)
    models = [text for role, make in makers.items() for text in ("--model", f"{role}={make(tmp_path / role)}")]
    out = tmp_path / "out"
    assert main(["score", str(sets.references), f"mine={sets.copies}", "--out", str(out), *models]) == 0
    with (out / "table.csv").open() as file:
        cells = {(row["figure"], row["protocol"]): row for row in csv.DictReader(file)}
    for figure, value in KNOWN.items():
        assert float(cells[figure, "sound"]["value"]) == pytest.approx(value, abs=1e-6), figure
    assert 0 < float(cells["Attr_c", "sound"]["value"]) == float(cells["Attr_c", "reconstructed"]["value"]) < 40
    assert "2 references cannot be halved" in cells["FID", "sound"]["why"]
    assert 0 <= float(cells["VLM answers read", "sound"]["value"]) <= 1
    answers = pd.read_parquet(out / "scores" / "vlm.parquet")["answer"]
    assert len(answers) == 2 and answers.str.len().gt(0).all()
