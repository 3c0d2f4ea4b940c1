"""The tiny base: what it is made from decides its folder, it appears whole or not at all, and what it says is measured.

A few steps on made pictures; how good the real one is stands in its README, by `make tiny-base`.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from common.hashing import sha256_of_file
from model.build import pretrained_pipeline
from model.config import load_config
from training.tiny_base import parts as base_parts
from training.tiny_base.base import facts_of, find_or_train, is_complete, key, origin_of
from training.tiny_base.fit import batches_of
from training.tiny_base.pictures import PictureError, Pictures, distinct, split
from training.tiny_base.recipe import BaseRecipe
from training.tiny_base.unet import loss_by_decile, new_unet
from training.tiny_base.vae import correlation, latents_of, pixels_of

QUICK = BaseRecipe(vae_steps=3, vae_batch=4, unet_steps=3, unet_batch=4, held_out=0.3, samples=2)


@pytest.fixture(scope="module")
def config():
    return load_config("tiny")


@pytest.fixture(scope="module")
def vocabulary():
    from common.pinned_files.weights import resolve

    return resolve("clip-vocabulary").path


def motif(seed, size=64):
    """uint8 (size, size, 3): blobs of colour, others for every seed."""
    coarse = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    return coarse.repeat(size // 4, axis=0).repeat(size // 4, axis=1)


def made_pictures(photos=12, each=2):
    pixels = np.stack([motif(photo * each + view) for photo in range(photos) for view in range(each)])
    names = [f"photo-{photo}" for photo in range(photos) for _ in range(each)]
    return Pictures(pixels, names, np.arange(len(pixels)) % each == 0)


@pytest.fixture(scope="module")
def base(config, vocabulary, tmp_path_factory):
    """A base after three steps. Only to be read."""
    return find_or_train(config, made_pictures(), vocabulary, tmp_path_factory.mktemp("bases"), QUICK)


def weights(folder):
    files = sorted(folder.rglob("*.safetensors"))
    return {str(file.relative_to(folder)): sha256_of_file(file) for file in files}


# -- the folder ------------------------------------------------------------------------------------------------------


def test_the_folder_is_a_base_for_the_pipeline(base, config):
    pipeline = pretrained_pipeline(
        base, conditions=config.conditions, identity_dim=config.identity_dim, rank=config.lora_rank
    )
    assert pipeline.unet.config.sample_size * pipeline.vae_scale_factor == config.resolution
    assert pipeline.scheduler.config.beta_end == config.scheduler["beta_end"]
    assert pipeline.image_encoder.config.hidden_size == config.image_encoder["hidden_size"]


def test_the_folder_says_what_it_is(base):
    facts, text = facts_of(base), (base / "README.md").read_text()
    assert base.name == facts["key"]
    assert "random weights" in text.lower() and f"{facts['measured']['vae']['faces']['mean']:.3f}" in text
    assert {len(facts["losses"][part]) for part in ("vae", "unet")} == {3}
    assert facts["sha256"]["unet"] == weights(base)["unet/diffusion_pytorch_model.safetensors"]
    assert (base / "reconstructions.png").is_file() and (base / "samples.png").is_file()


def test_the_same_seed_gives_the_same_bytes_whatever_was_drawn_before(base, config, vocabulary, tmp_path):
    torch.manual_seed(99)
    before = torch.get_rng_state()
    again = find_or_train(config, made_pictures(), vocabulary, tmp_path, QUICK)
    assert weights(again) == weights(base) and len(weights(base)) == 4
    assert torch.equal(torch.get_rng_state(), before)


def test_vae_and_unet_are_trained_and_the_encoders_are_not(base, config):
    untrained = dict(new_unet(config.unet, QUICK.seed).named_parameters())
    trained = UNet2DConditionModel.from_pretrained(base, subfolder="unet")
    assert not [name for name, value in trained.named_parameters() if torch.equal(value, untrained[name])]
    losses = facts_of(base)["losses"]
    assert len(set(losses["vae"])) == len(set(losses["unet"])) == 3
    torch.manual_seed(QUICK.seed)
    text = CLIPTextModel(CLIPTextConfig(**config.text_encoder)).state_dict()
    kept = CLIPTextModel.from_pretrained(base, subfolder="text_encoder").state_dict()
    assert all(torch.equal(kept[name], value) for name, value in text.items())


def test_a_base_that_is_there_is_used_without_training(base, config, vocabulary, monkeypatch):
    monkeypatch.setattr(base_parts, "train", lambda *_: pytest.fail("trained again"))
    stamp = (base / "training.json").stat().st_mtime_ns
    assert find_or_train(config, made_pictures(), vocabulary, base.parent, QUICK) == base
    assert (base / "training.json").stat().st_mtime_ns == stamp


@pytest.mark.parametrize("dies_in", ["train", "measure", "draw"])
def test_a_run_that_dies_leaves_no_folder_under_the_name(dies_in, config, vocabulary, tmp_path, monkeypatch):
    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(base_parts, dies_in, die)
    with pytest.raises(KeyboardInterrupt):
        find_or_train(config, made_pictures(), vocabulary, tmp_path, replace(QUICK, vae_steps=1, unet_steps=1))
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_is_no_base_and_goes_after_an_hour(config, vocabulary, tmp_path):
    name = key(origin_of(config, made_pictures(), QUICK, vocabulary))
    old, young, note = (tmp_path / f".{name}-{end}.tmp" for end in ("old", "young", "file"))
    old.mkdir()
    young.mkdir()
    note.touch()
    (old / "training.json").write_text("{}")
    for left in (old, note):
        os.utime(left, (0, 0))
    assert not is_complete(tmp_path / name)
    made = find_or_train(config, made_pictures(), vocabulary, tmp_path, replace(QUICK, vae_steps=1, unet_steps=1))
    assert sorted(tmp_path.iterdir()) == sorted([made, young])


# -- its name --------------------------------------------------------------------------------------------------------


def test_whatever_the_base_follows_from_is_in_its_name(config, vocabulary, tmp_path):
    pictures = made_pictures()
    changed = replace(pictures, pixels=pictures.pixels.copy())
    changed.pixels[0, 0, 0, 0] ^= 1
    renamed = replace(pictures, photos=["other", *pictures.photos[1:]])
    faceless = replace(pictures, faces=~pictures.faces)
    wider = config.model_copy(update={"vae": config.vae | {"latent_channels": 8}})
    words = tmp_path / "words.gz"
    words.write_bytes(b"other words")
    names = [
        key(origin_of(config, pictures, QUICK, vocabulary)),
        key(origin_of(config, changed, QUICK, vocabulary)),
        key(origin_of(config, renamed, QUICK, vocabulary)),
        key(origin_of(config, faceless, QUICK, vocabulary)),
        key(origin_of(wider, pictures, QUICK, vocabulary)),
        key(origin_of(config, pictures, replace(QUICK, seed=1), vocabulary)),
        key(origin_of(config, pictures, replace(QUICK, unet_steps=4), vocabulary)),
        key(origin_of(config, pictures, QUICK, words)),
    ]
    assert len(set(names)) == len(names)
    assert names[0] == key(origin_of(config, made_pictures(), QUICK, vocabulary))


def test_what_only_drawing_uses_is_not_in_its_name(config, vocabulary):
    other = config.model_copy(update={"lora_rank": 4})
    assert key(origin_of(other, made_pictures(), QUICK, vocabulary)) == key(
        origin_of(config, made_pictures(), QUICK, vocabulary)
    )


# -- pictures --------------------------------------------------------------------------------------------------------


def test_a_photo_is_held_out_whole_or_not_at_all():
    trained, held = split(made_pictures(photos=40, each=3), 0.3)
    assert not set(trained.photos) & set(held.photos)
    assert len(trained) + len(held) == 120 and len(held) == 3 * len(set(held.photos))
    assert 4 <= len(set(held.photos)) <= 20


def test_whether_a_photo_is_held_out_does_not_hang_on_the_others():
    few, many = made_pictures(photos=20), made_pictures(photos=40)
    held = {photo for photo in split(many, 0.3)[1].photos if int(photo.partition("-")[2]) < 20}
    assert set(split(few, 0.3)[1].photos) == held


def test_versions_of_one_photo_count_once():
    """Brighter, mirrored and re-sized versions are one motif: in training and held out at once they would cheat."""
    first, second = motif(1), motif(2)
    versions = [first, (first // 2 + 60).astype(np.uint8), first[:, ::-1].copy(), second]
    pictures = Pictures(np.stack([*versions, motif(3)]), ["a", "b", "c", "d", "c"], np.arange(5) < 4)
    kept = distinct(pictures)
    assert kept.photos == ["a", "d"]
    assert (kept.pixels == np.stack([first, second])).all() and kept.faces.all()


@pytest.mark.parametrize("photos, faces", [(1, True), (40, False)])
def test_too_few_photos_or_none_of_a_face_are_refused_with_the_remedy(photos, faces):
    pictures = made_pictures(photos)
    with pytest.raises(PictureError, match="more photos of faces are needed"):
        split(replace(pictures, faces=pictures.faces & faces), 0.3)


@pytest.mark.parametrize(
    "pixels, photos, faces, said",
    [
        (np.zeros((2, 64, 64, 3), np.float32), ["a", "b"], np.ones(2, bool), "uint8"),
        (np.zeros((2, 64, 32, 3), np.uint8), ["a", "b"], np.ones(2, bool), "size, size"),
        (np.zeros((2, 64, 64, 3), np.uint8), ["a"], np.ones(2, bool), "one for each"),
        (np.zeros((2, 64, 64, 3), np.uint8), ["a", "b"], np.ones(3, bool), "faces"),
    ],
)
def test_what_are_no_pictures_is_refused(pixels, photos, faces, said):
    with pytest.raises(PictureError, match=said):
        Pictures(pixels, photos, faces)


def test_pictures_of_another_size_are_refused_before_anything_is_trained(config, vocabulary, tmp_path):
    pictures = replace(made_pictures(), pixels=made_pictures().pixels[:, ::2, ::2])
    with pytest.raises(PictureError, match=r"32 pixels.*64 \(resolution\)"):
        find_or_train(config, pictures, vocabulary, tmp_path, QUICK)


# -- what is measured ------------------------------------------------------------------------------------------------


def test_correlation_is_pearsons():
    x = torch.tensor([[0.0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3], [5, 5, 5, 5]])
    y = torch.tensor([[1.0, 3, 5, 7], [3, 2, 1, 0], [1, -1, -1, 1], [0, 1, 2, 3]])
    r = correlation(x, y)
    assert r[:3].tolist() == pytest.approx([1, -1, 0], abs=1e-12)
    assert math.isnan(r[3])
    one, two = np.random.default_rng(0).random((2, 3, 8, 8))
    assert correlation(torch.tensor(one)[None], torch.tensor(two)[None]).item() == pytest.approx(
        np.corrcoef(one.ravel(), two.ravel())[0, 1]
    )


def test_scaled_latents_have_unit_variance(base, config):
    pipeline = pretrained_pipeline(base, conditions=config.conditions, identity_dim=128, rank=8)
    trained, _ = split(made_pictures(), QUICK.held_out)
    assert json.loads((base / "vae/config.json").read_text())["scaling_factor"] == pipeline.vae.config.scaling_factor
    assert latents_of(pipeline.vae, trained.pixels, QUICK.seed).var().item() == pytest.approx(1, abs=1e-3)
    assert pipeline.vae.config.scaling_factor != pytest.approx(0.18215)


def test_telling_no_noise_costs_one_and_telling_all_of_it_nothing(base, config):
    """The scale on which the UNet's error is reported."""
    vae = pretrained_pipeline(base, conditions=config.conditions, identity_dim=128, rank=8).vae

    class Teller(torch.nn.Module):
        def forward(self, noisy, timesteps, text):
            return type("Told", (), {"sample": torch.zeros_like(noisy)})

    losses = loss_by_decile(Teller(), vae, config.scheduler, made_pictures().pixels, torch.zeros(1, 77, 128), 0)
    assert losses == pytest.approx([1.0] * 10, abs=1e-6)


def test_deciles_are_asked_low_noise_first_with_the_same_noise_every_time(base, config):
    vae = pretrained_pipeline(base, conditions=config.conditions, identity_dim=128, rank=8).vae
    asked = []

    class Listener(torch.nn.Module):
        def forward(self, noisy, timesteps, text):
            asked.append((timesteps, noisy))
            return type("Told", (), {"sample": noisy})

    for _ in range(2):
        loss_by_decile(Listener(), vae, config.scheduler, made_pictures().pixels, torch.zeros(1, 77, 128), 0)
    for decile in range(10):
        timesteps, noisy = asked[decile]
        assert (timesteps // 100 == decile).all()
        assert torch.equal(timesteps, asked[decile + 10][0]) and torch.equal(noisy, asked[decile + 10][1])


def test_every_picture_is_used_before_any_is_used_again():
    generator = torch.Generator().manual_seed(0)
    drawn = torch.cat(list(batches_of(10, 4, 5, generator)))
    assert sorted(drawn[:10].tolist()) == sorted(drawn[10:].tolist()) == list(range(10))


def test_pixels_run_from_minus_one_to_one():
    pixels = pixels_of(np.array([[[[0, 255, 51]]]], np.uint8))
    assert pixels.shape == (1, 3, 1, 1)
    assert pixels.flatten().tolist() == pytest.approx([-1, 1, -0.6])
