"""IP-Adapter-FaceID, -Plus and -PlusV2 from tiny files in the authors' layout to a picture, and the published sizes."""

from __future__ import annotations

import os

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel

from evaluation.methods.ip_adapter import IpAdapterFaceId, IpAdapterFaceIdPlus, IpAdapterFaceIdPlusV2
from evaluation.methods.networks.adapter_files import face_id_shapes, read_face_id, read_face_id_plus
from evaluation.methods.networks.twins import attention_widths
from evaluation.methods.sources import MethodSources, Unavailable
from model.checkpoints.layouts import CheckpointError, image_proj_shapes, ip_adapter_shapes
from model.config import load_config
from tests.evaluation.methods.twin_of import loaded_twins
from tests.real_photos import photo  # noqa: F401  (a fixture)

KINDS = (IpAdapterFaceId, IpAdapterFaceIdPlus, IpAdapterFaceIdPlusV2)


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    return loaded_twins(KINDS, tmp_path_factory)


@pytest.fixture(scope="module")
def rgb(photo):  # noqa: F811
    return photo("astronaut").rgb


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_from_a_photo_the_same_for_the_same_seed(twins, rgb, kind):
    twin = twins[kind]
    face = twin.prepare([rgb])
    pictures = [np.asarray(twin.draw(face, "a person in the snow", seed)) for seed in (1, 1, 2)]
    assert pictures[0].shape == (64, 64, 3) and (pictures[0] == pictures[1]).all()
    assert (pictures[0] != pictures[2]).any()
    tokens = twin.face_tokens(face)
    assert tokens.shape == (2, 4, 128) and (tokens[0] - tokens[1]).abs().max() > 0.1
    assert abs(float(face.identity.norm()) - 1) < 1e-5
    with pytest.raises(ValueError, match="no face was found"):
        twin.prepare([np.full((200, 200, 3), 90, np.uint8)])


def test_the_face_reaches_the_picture_by_its_scale_and_by_clip_in_plus_only(twins, rgb):
    for kind, twin in twins.items():
        face = twin.prepare([rgb])
        other = face.__class__(-face.identity, face.features)
        unseen = face.__class__(face.identity, None if face.features is None else face.features + 1)

        def latents(given, twin=twin):
            return twin.draw(given, "a person", 0, output_type="latent")

        assert (latents(face) - latents(other)).abs().max() > 1e-3, kind.name
        if kind.plus:
            assert (latents(face) - latents(unseen)).abs().max() > 1e-3, kind.name
        twin.pipeline.set_ip_adapter_scale(0.0)
        assert torch.equal(latents(face), latents(other)), kind.name
        twin.pipeline.set_ip_adapter_scale(twin.settings.ip_scale)


def test_v2_adds_what_v1_replaces(twins, rgb):
    """The twins' files have the same numbers: V2's tokens are the projected identity plus V1's."""
    first, second = twins[IpAdapterFaceIdPlus], twins[IpAdapterFaceIdPlusV2]
    face = first.prepare([rgb])
    layer = second.projection
    identity = layer.norm(layer.proj(face.identity).reshape(1, 4, -1))
    torch.testing.assert_close(second.face_tokens(face)[1:], identity + first.face_tokens(face)[1:])


def test_the_lora_of_the_file_is_in_the_unet(twins, rgb):
    twin = twins[IpAdapterFaceIdPlusV2]
    face = twin.prepare([rgb])
    named = twin.pipeline.unet.named_modules()
    layers = [module for name, module in named if "transformer_blocks" in name and name.endswith("to_out.0")]
    assert layers and all(layer.scaling == {"faceid_0": 1.0} for layer in layers)
    with_lora = twin.draw(face, "a person", 0, output_type="latent")
    twin.pipeline.disable_lora()
    assert (twin.draw(face, "a person", 0, output_type="latent") - with_lora).abs().max() > 1e-3
    twin.pipeline.enable_lora()


@pytest.mark.parametrize("damage", ["lacks", "foreign", "shape", "other"])
@pytest.mark.parametrize("kind", [IpAdapterFaceId, IpAdapterFaceIdPlusV2])
def test_a_file_that_is_not_whole_or_another_models_is_refused(twins, tmp_path, kind, damage):
    state = torch.load(twins[kind].found["adapter"].path, weights_only=True)
    if damage == "lacks":
        del state["ip_adapter"]["3.to_v_lora.up.weight"]
    if damage == "foreign":
        state["image_proj"]["norm3.weight"] = torch.zeros(3)
    if damage == "shape":
        state["ip_adapter"]["1.to_k_ip.weight"] = torch.zeros(3, 4)
    if damage == "other":
        state = torch.load(
            twins[IpAdapterFaceIdPlus if kind is IpAdapterFaceId else IpAdapterFaceId].found["adapter"].path,
            weights_only=True,
        )
    torch.save(state, tmp_path / "file.bin")
    with pytest.raises(CheckpointError):
        read_face_id_plus(tmp_path / "file.bin", True) if kind.plus else read_face_id(tmp_path / "file.bin")


def test_what_is_missing_is_told_with_how_to_have_it():
    with pytest.raises(Unavailable) as told:
        IpAdapterFaceIdPlusV2(MethodSources(weights="/nowhere"))
    for words in (
        "hf download h94/IP-Adapter-FaceID ip-adapter-faceid-plusv2_sd15.bin", "hf download SG161222/Realistic_Vision_V4.0_noVAE",
        "laion/CLIP-ViT-H-14-laion2B-s32B-b79K", "insightface's buffalo_l pack", "--part ip-adapter-faceid-plusv2.base=PLACE",
    ):  # fmt: skip
        assert words in str(told.value)


def test_the_published_sizes_fit_stock_diffusers():
    """Names, shapes and numbers of parameters of the full-size model, without its weights."""
    config = load_config("sd15").unet
    adapter = ip_adapter_shapes(attention_widths(config), 768, 128)
    projectors = {"plus": image_proj_shapes(512, 1280, 768), "plain": face_id_shapes(512, 768)}
    assert (len(projectors["plus"]), len(adapter)) == (56, 288)
    counts = {name: sum(map(np.prod, shapes.values())) for name, shapes in (*projectors.items(), ("adapter", adapter))}
    assert counts["plus"] == 33_581_568 and counts["adapter"] == 44_679_168
    for name, projector in projectors.items():
        with torch.device("meta"):
            unet = UNet2DConditionModel.from_config(config)
            before = sum(value.numel() for value in unet.parameters())
            state = {
                part: {key: torch.empty(shape) for key, shape in shapes.items()}
                for part, shapes in (("image_proj", projector), ("ip_adapter", adapter))
            }
        assert before == 859_520_964
        unet._load_ip_adapter_weights([state])
        lora = sum(np.prod(shape) for key, shape in adapter.items() if "_lora." in key)
        now = sum(value.numel() for value in unet.parameters())
        assert now - before == counts[name] + counts["adapter"] - lora and lora == 25_509_888
        loras = unet._load_ip_adapter_loras([state])[0]
        assert sum(value.numel() for value in loras.values()) == lora
