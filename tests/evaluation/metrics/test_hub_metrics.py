"""CLIP and DINO on tiny twins with random weights: against transformers' own calls, and the published script's faults."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, CLIPModel, CLIPVisionModel, ViTModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from common.storage import Storage
from evaluation.metrics.base import Pair, Sources, Unavailable
from evaluation.metrics.clip_similarity import ClipSimilarity
from evaluation.metrics.dino_similarity import DinoSimilarity, random_pooler
from evaluation.metrics.vectors import cosine
from evaluation.score import score
from evaluation.sets import open_method, open_references
from evaluation.table import column_of
from tests.evaluation.twins import clip_twin, dino_twin
from tests.real_photos import photo  # noqa: F401  (a fixture)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("twins")
    return {"clip": str(clip_twin(root / "clip")), "dino": str(dino_twin(root / "dino"))}


@pytest.fixture(scope="module")
def clip(folders):
    return ClipSimilarity(Sources(models=folders))


@pytest.fixture(scope="module")
def dino(folders):
    return DinoSimilarity(Sources(models=folders))


def test_clip_is_transformers_own_and_the_published_clip_i_lacks_the_projection(clip, folders, photo):  # noqa: F811
    one, other = (np.asarray(photo(name).rgb) for name in ("astronaut", "cat"))
    model = CLIPModel.from_pretrained(folders["clip"]).eval()
    pixels = CLIPImageProcessorPil.from_pretrained(folders["clip"])(
        images=[one, other], return_tensors="pt"
    ).pixel_values
    tokens = AutoTokenizer.from_pretrained(folders["clip"])(["a cat"], return_tensors="pt")
    with torch.inference_mode():
        projected = model.get_image_features(pixel_values=pixels).pooler_output
        words = model.get_text_features(**tokens).pooler_output
        pooled = CLIPVisionModel.from_pretrained(folders["clip"]).eval()(pixel_values=pixels).pooler_output
    told = clip.scores(Pair(clip.features(one), clip.features(other), prompt="a cat"))
    assert told["clip_i"] == pytest.approx(cosine(*projected.tolist()), abs=1e-6)
    assert told["clip_i_pooled"] == pytest.approx(cosine(*pooled.tolist()), abs=1e-6)
    assert told["clip_t"] == pytest.approx(cosine(words[0].tolist(), projected[1].tolist()), abs=1e-6)
    assert abs(told["clip_i"] - told["clip_i_pooled"]) > 1e-3, "the two protocols are not the same number"


def test_a_copy_is_1_and_without_words_there_is_no_clip_t(clip, photo):  # noqa: F811
    features = clip.features(photo("cat").rgb)
    told = clip.scores(Pair(features, features))
    assert told["clip_i"] == pytest.approx(1) and told["clip_t"] is None


def test_dino_is_the_class_token_and_a_random_pooler_changes_the_figure(dino, folders, photo):  # noqa: F811
    photos = [photo(name).rgb for name in ("astronaut", "cat")]
    features = [dino.features(rgb) for rgb in photos]
    told = dino.scores(Pair(*features))
    pixels = ViTImageProcessorPil.from_pretrained(folders["dino"])(images=photos, return_tensors="pt").pixel_values
    with torch.inference_mode():
        expected = ViTModel.from_pretrained(folders["dino"]).eval()(pixel_values=pixels).last_hidden_state[:, 0]
    assert told["dino"] == pytest.approx(cosine(*expected.tolist()), abs=1e-6)
    tokens = np.array([item["token"] for item in features])
    draws = [cosine(*random_pooler(tokens, seed)) for seed in range(20)]
    assert np.std(draws) > 1e-4, "the published figure is another at every load"
    assert told["pooled"] == pytest.approx(np.mean(draws))


def test_a_random_pooler_moves_the_published_figure_by_points():
    """50 pairs of made class tokens as wide as DINO's: 1 to 2.5 points below the truth, and half a point of chance."""
    rng = np.random.default_rng(0)
    one = rng.normal(size=(50, 384))
    other = 0.6 * one + 0.8 * rng.normal(size=(50, 384))

    def points(rows):
        return 100 * np.mean([cosine(*pair) for pair in zip(*np.split(rows, 2), strict=True)])

    tokens = 2 * np.concatenate([one, other])
    draws = [points(random_pooler(tokens, seed)) for seed in range(20)]
    assert -2.5 < np.mean(draws) - points(tokens) < -1 and 0.3 < np.std(draws) < 0.8


def test_a_missing_picture_ends_the_published_script_and_not_the_sound_figure(folders, sets, tmp_path):
    (tmp_path / "mine").mkdir()
    shutil.copy(sets.copies / "obama.jpg", tmp_path / "mine")
    methods = [open_method("mine", tmp_path / "mine", open_references(sets.references))]
    sources = Sources(models=folders)
    metrics = {"CLIP": ClipSimilarity(sources), "DINO": DinoSimilarity(sources)}
    cells = {
        (figure.title, figure.protocol): column_of(figure, scored, methods).cells["mine"]
        for scored in score(metrics, methods, Storage(tmp_path / "out"), sources)
        for figure in scored.metric.figures()
    }
    for title in ("CLIP-I", "DINO"):
        assert cells[title, "sound"].estimate.value == pytest.approx(1) and cells[title, "sound"].left_out == 1
        assert cells[title, "reconstructed"].why == "the published script ends with an error at biden: not drawn"
    assert cells["CLIP-T", "reconstructed"].why == "no code was published"


def test_transformers_draws_the_pooler_as_it_is_reconstructed(folders):
    """The checkpoint has none: two loads differ, and the drawn numbers have the spread that is taken, and no bias."""
    drawn = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        drawn.append(ViTModel.from_pretrained(folders["dino"]).pooler.dense)
    assert not torch.equal(drawn[0].weight, drawn[1].weight)
    assert drawn[0].weight.std().item() == pytest.approx(0.02, rel=0.1) and not drawn[0].bias.any()


def test_a_model_that_is_not_here_says_what_to_fetch(folders, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(Unavailable, match="hf download nobody/no-such-clip.*--model-of clip=FOLDER"):
        ClipSimilarity(Sources(models={"clip": "nobody/no-such-clip"}))


def test_other_weights_are_another_fingerprint(clip, dino, tmp_path):
    other = ClipSimilarity(Sources(models={"clip": str(clip_twin(tmp_path / "clip", seed=1))}))
    assert len({clip.fingerprint, other.fingerprint, dino.fingerprint}) == 3
