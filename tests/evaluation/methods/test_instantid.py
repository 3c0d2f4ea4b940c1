"""InstantID from tiny files in the authors' layout to a picture, and the published sizes."""

from __future__ import annotations

import os

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel

from evaluation.methods.instantid import InstantId, resized
from evaluation.methods.networks.adapter_files import read_instant_id, resampler_shapes
from evaluation.methods.networks.twins import attention_widths
from evaluation.methods.sources import MethodSources, Unavailable
from model.checkpoints.layouts import CheckpointError
from tests.evaluation.methods.twin_of import twin_of
from tests.real_photos import photo  # noqa: F401  (a fixture)

SDXL_UNET = {  # stabilityai/stable-diffusion-xl-base-1.0's
    "sample_size": 128, "block_out_channels": (320, 640, 1280), "transformer_layers_per_block": (1, 2, 10),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048, "use_linear_projection": True, "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}  # fmt: skip


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    made = twin_of(InstantId, tmp_path_factory.mktemp("twin"))
    made.load()
    return made


@pytest.fixture(scope="module")
def face(twin, photo):  # noqa: F811
    return twin.prepare([photo("astronaut").rgb])


def latents(twin, face):
    return twin.draw(face, "a person in the snow", 0, output_type="latent")


def test_a_picture_of_the_references_shape_the_same_for_the_same_seed(twin, face):
    pictures = [np.asarray(twin.draw(face, "a person in the snow", seed)) for seed in (1, 1, 2)]
    assert pictures[0].shape == (256, 256, 3) == np.asarray(face.pose).shape
    assert (pictures[0] == pictures[1]).all() and (pictures[0] != pictures[2]).any()
    with pytest.raises(ValueError, match="no face was found"):
        twin.prepare([np.full((200, 200, 3), 90, np.uint8)])


def test_sixteen_tokens_of_a_vector_that_is_not_of_length_one(twin, face):
    tokens = twin.face_tokens(face)
    assert tokens.shape == (2, 16, 128) and abs(float(face.vector.norm()) - 1) > 0.1
    longer = face.__class__(2 * face.vector, face.pose)
    assert (twin.face_tokens(longer)[1] - tokens[1]).abs().max() > 1e-3
    assert torch.equal(twin.face_tokens(longer)[0], tokens[0]), "without guidance the vector is zero"


def test_the_controlnet_sees_tokens_and_pose_but_no_text_and_the_unet_both(twin, face, monkeypatch):
    seen = []
    controlnet = twin.pipeline.controlnet
    real = type(controlnet).__mro__[1].forward

    def spy(self, sample, timestep, states, *arguments, **named):
        seen.append((states, named["controlnet_cond"]))
        return real(self, sample, timestep, states, *arguments, **named)

    monkeypatch.setattr(type(controlnet).__mro__[1], "forward", spy)
    usual = latents(twin, face)
    tokens = twin.face_tokens(face)
    assert len(seen) == twin.settings.steps and all(torch.equal(states, tokens) for states, _ in seen)
    pose = torch.from_numpy(np.array(face.pose)).permute(2, 0, 1) / 255
    assert all(torch.allclose(cond, pose.expand(2, -1, -1, -1)) for _, cond in seen)
    other = face.__class__(-face.vector, face.pose)
    assert (latents(twin, other) - usual).abs().max() > 1e-3
    blank = face.__class__(face.vector, face.pose.point(lambda value: 0))
    assert (latents(twin, blank) - usual).abs().max() > 1e-4
    twin.pipeline.set_ip_adapter_scale(0.0)
    assert (latents(twin, face) - usual).abs().max() > 1e-4, "without the UNet's tokens the ControlNet still has them"
    twin.pipeline.set_ip_adapter_scale(twin.settings.ip_scale)


def test_tokens_of_another_drawing_are_not_taken(twin, face):
    controlnet = twin.pipeline.controlnet
    controlnet.face_tokens = None
    with pytest.raises(ValueError, match="set face_tokens"):
        controlnet(torch.zeros(2, 4, 8, 8), 1, None, controlnet_cond=torch.zeros(2, 3, 64, 64))


@pytest.mark.parametrize(
    ("size", "expected"),
    [((512, 512), (1280, 1280)), ((1000, 1500), (832, 1280)), ((1500, 1000), (1280, 832)), ((3000, 100), (1280, 64))],
)
def test_the_size_of_a_picture(size, expected):
    width, height = size
    canvas = resized(np.zeros((height, width, 3), np.uint8), 1280, 64)
    assert canvas.shape == (expected[1], expected[0], 3)


@pytest.mark.parametrize("damage", ["lacks", "foreign", "shape", "other"])
def test_a_file_that_is_not_whole_or_another_models_is_refused(twin, tmp_path, damage):
    state = torch.load(twin.found["adapter"].path, weights_only=True)
    if damage == "lacks":
        del state["ip_adapter"]["3.to_v_ip.weight"]
    if damage == "foreign":
        state["controlnet"] = {"conv_in.weight": torch.zeros(3)}
    if damage == "shape":
        state["image_proj"]["layers.1.1.3.weight"] = torch.zeros(3, 4)
    if damage == "other":
        del state["image_proj"]["latents"]
    torch.save(state, tmp_path / "ip-adapter.bin")
    with pytest.raises(CheckpointError):
        read_instant_id(tmp_path / "ip-adapter.bin")


def test_what_is_missing_is_told_with_how_to_have_it():
    with pytest.raises(Unavailable) as told:
        InstantId(MethodSources(weights="/nowhere"))
    for words in (
        "hf download InstantX/InstantID ip-adapter.bin", "--include 'ControlNetModel/*'", "insightface's antelopev2 pack",
        "hf download stabilityai/stable-diffusion-xl-base-1.0 --include", "--part instantid.base=PLACE",
    ):  # fmt: skip
        assert words in str(told.value)


def test_the_published_sizes_fit_stock_diffusers():
    """16 queries of 1280, 4 layers of 20 heads of 64, 512 in and 2048 out; 70 cross-attentions; without the weights."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**SDXL_UNET)
        widths = attention_widths(dict(unet.config))
        adapter = {f"{i}.to_{kind}_ip.weight": (widths[i], 2048) for i in range(1, len(widths), 2) for kind in "kv"}
        projector = resampler_shapes(16, 512, 1280, 2048, 4, 20)
        parts = {"image_proj": projector, "ip_adapter": adapter}
        state = {part: {key: torch.empty(shape) for key, shape in shapes.items()} for part, shapes in parts.items()}
        before = sum(value.numel() for value in unet.parameters())
        unet._load_ip_adapter_weights([state])
    assert len(adapter) == 2 * 70 and before == 2_567_463_684
    added = sum(value.numel() for value in unet.parameters()) - before
    assert added == sum(int(np.prod(shape)) for shapes in parts.values() for shape in shapes.values())
    layer = unet.encoder_hid_proj.image_projection_layers[0]
    assert layer.latents.shape == (1, 16, 1280) and layer.layers[0].attn.heads == 20 and len(layer.layers) == 4
