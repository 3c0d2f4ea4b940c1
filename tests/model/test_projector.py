"""The projector: stateless for its callers, and under IP-Adapter's names as diffusers reads them."""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel

from model import projector as projector_module
from model.checkpoints import layouts
from model.config import load_config
from model.projector import FaceProjector, from_authors, to_authors


def projector(**options):
    torch.manual_seed(0)
    return FaceProjector(identity_dim=32, clip_dim=48, token_dim=128, **options).eval()


def test_names_go_both_ways_without_a_bit_lost():
    ours = {key.removeprefix("resampler."): value for key, value in projector().state_dict().items()}
    theirs = to_authors(ours)
    assert len(theirs) == 56
    assert theirs["perceiver_resampler.layers.3.0.to_kv.weight"].shape == (256, 128)
    back = from_authors(theirs)
    assert back.keys() == ours.keys()
    assert all(torch.equal(back[key], ours[key]) for key in ours)


def test_diffusers_own_loader_reads_the_names_as_we_do():
    part = projector()
    unet = UNet2DConditionModel.from_config(load_config("tiny").unet)
    loaded = unet._convert_ip_adapter_image_proj_to_diffusers(part.image_proj_state(), low_cpu_mem_usage=False)
    assert all(torch.equal(value, part.resampler.state_dict()[key]) for key, value in loaded.state_dict().items())


def test_a_call_leaves_nothing_behind():
    part = projector()
    identity, features = torch.randn(2, 32), torch.randn(2, 5, 48)
    with torch.no_grad():
        first = part(identity, features)
        part(identity.flip(0), features.flip(0), shortcut_scale=0.3)
        assert torch.equal(part(identity, features), first)
    assert part.resampler.clip_embeds is None and part.resampler.shortcut_scale == 1.0


def test_the_shortcut_adds_the_features_to_the_identity():
    identity, features = torch.randn(2, 32), torch.randn(2, 5, 48)
    with torch.no_grad():
        with_shortcut, without = projector()(identity, features), projector(shortcut=False)(identity, features)
        alone = projector()(identity, features, shortcut_scale=0.0)
        half = projector()(identity, features, shortcut_scale=0.5)
    assert torch.allclose(with_shortcut - without, alone, atol=1e-6)
    assert torch.allclose(half, alone + 0.5 * without, atol=1e-6)


def test_a_folder_keeps_the_shortcut(tmp_path):
    projector(shortcut=False).save_pretrained(tmp_path)
    assert FaceProjector.from_pretrained(tmp_path).resampler.shortcut is False


def test_the_fixed_sizes_are_those_that_checkpoints_are_checked_against():
    """An exported folder carries projector.py alone, so that file has the constants a second time."""
    for name in ("TOKENS", "DEPTH", "HEAD_DIM"):
        assert getattr(projector_module, name) == getattr(layouts, name)
