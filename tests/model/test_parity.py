"""One checkpoint, three programs: ours, stock diffusers after export, and the equations written out. One output.

Weights are random and none is zero, so that every part of the model takes part in the result.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel

from model.checkpoints.on_model import load_into
from model.checkpoints.reading import read
from model.checkpoints.writing import write
from model.face_unet import FaceUNet
from model.facemakeup import FaceMakeUp
from tests.model import reference
from tests.model.checkpoints import foreign

TINY = foreign.TINY
SAME, OTHER = 1e-5, 1e-2  # largest difference of what must be equal; smallest of what must not


@pytest.fixture(scope="module")
def base():
    """A stock UNet with random weights."""
    torch.manual_seed(0)
    return UNet2DConditionModel(**foreign.TINY_UNET).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def inputs():
    """Two samples of everything that one step of the model takes."""
    draw = torch.Generator().manual_seed(3)
    identity = torch.randn(2, TINY.identity, generator=draw)
    return {
        "latents": torch.randn(2, 4, 8, 8, generator=draw),
        "steps": torch.tensor([7, 801]),
        "text": torch.randn(2, 77, TINY.token, generator=draw),
        "identity": identity / identity.norm(dim=1, keepdim=True),
        "clip": torch.randn(2, 17, TINY.clip, generator=draw),
        "pose": torch.rand(2, 3, 64, 64, generator=draw),
    }


@pytest.fixture(scope="module", params=[True, False], ids=["shortcut", "no-shortcut"])
def checkpoint(request):
    return replace(foreign.released(), metadata={"layout": "authors", "shortcut": str(request.param).lower()})


def ours(base, checkpoint):
    unet = FaceUNet.from_config(base.config)
    unet.load_state_dict(base.state_dict())
    model = FaceMakeUp.from_unet(unet, TINY.identity, TINY.clip, TINY.rank).eval()
    load_into(model, checkpoint)
    return model


@torch.no_grad()
def our_prediction(base, checkpoint, inputs, pose=True):
    model = ours(base, checkpoint)
    if pose:
        return model(*(inputs[name] for name in ("latents", "steps", "text", "identity", "clip", "pose")))
    tokens = model.projector(inputs["identity"], inputs["clip"])
    return model.unet(inputs["latents"], inputs["steps"], (inputs["text"], [tokens]), return_dict=False)[0]


@torch.no_grad()
def stock_prediction(base, checkpoint, inputs, folder, shortcut=None):
    """Stock diffusers, from the exported folder, as its model card says. `shortcut`: not what the checkpoint says."""
    unet = UNet2DConditionModel.from_config(base.config)
    unet.load_state_dict(base.state_dict())
    pipe = StableDiffusionPipeline(*[None] * 3, unet.eval(), None, None, None, requires_safety_checker=False)
    pipe.load_ip_adapter(
        folder, subfolder="", weight_name="ip-adapter-facemakeup.safetensors", image_encoder_folder=None
    )
    (projection,) = unet.encoder_hid_proj.image_projection_layers
    projection.shortcut = checkpoint.shortcut if shortcut is None else shortcut
    projection.clip_embeds = inputs["clip"].unsqueeze(1)
    return unet(
        inputs["latents"],
        inputs["steps"],
        inputs["text"],
        added_cond_kwargs={"image_embeds": [inputs["identity"].unsqueeze(1)]},
        return_dict=False,
    )[0]


@torch.no_grad()
def written_out(base, checkpoint, inputs, **options):
    return reference.predict(base, checkpoint, **inputs | options)


def difference(one, other):
    assert one.shape == other.shape and one.isfinite().all()
    return float((one - other).abs().max())


def test_ours_is_the_equations(base, checkpoint, inputs):
    assert difference(our_prediction(base, checkpoint, inputs), written_out(base, checkpoint, inputs)) < SAME


def test_stock_diffusers_is_the_equations_without_the_pose_branch(base, checkpoint, inputs, stock_folder):
    stock = stock_prediction(base, checkpoint, inputs, stock_folder)
    assert difference(stock, our_prediction(base, checkpoint, inputs, pose=False)) < SAME
    assert difference(stock, written_out(base, checkpoint, inputs, pose=None)) < SAME


@pytest.fixture(scope="module")
def stock_folder(checkpoint, tmp_path_factory):
    """The authors' file, converted for stock diffusers."""
    folder = tmp_path_factory.mktemp("export")
    (folder / "base" / "unet").mkdir(parents=True)
    UNet2DConditionModel(**foreign.TINY_UNET).save_config(folder / "base" / "unet")
    file = foreign.authors_bin(checkpoint, folder / "model.bin")
    write(read(file, shortcut=checkpoint.shortcut), folder / "stock", "diffusers", base=folder / "base")
    return folder / "stock"


def without(checkpoint, part, *names):
    """The checkpoint with some tensors of a part zeroed."""
    zeroed = {k: v * 0 if any(name in k for name in names) else v for k, v in getattr(checkpoint, part).items()}
    assert any(not v.any() for v in zeroed.values())
    return replace(checkpoint, **{part: zeroed})


PARTS = {  # every part of the checkpoint, taken away
    "q LoRA": ("ip_adapter", "to_q_lora.up"),
    "k LoRA": ("ip_adapter", "to_k_lora.up"),
    "v LoRA": ("ip_adapter", "to_v_lora.up"),
    "out LoRA": ("ip_adapter", "to_out_lora.up"),
    "LoRA of the last attention": ("ip_adapter", "7.to_out_lora.up"),
    "image K": ("ip_adapter", "to_k_ip"),
    "image V": ("ip_adapter", "to_v_ip"),
    "identity": ("image_proj", "proj.0"),
    "CLIP features": ("image_proj", "perceiver_resampler.proj_in"),
    "pose": ("controlnet", "controlnet_cond_embedding.conv_out"),
    "ControlNet's cross-attention": ("controlnet", "attn2.to_out"),
    "a zero convolution": ("controlnet", "controlnet_down_blocks.2"),
    "the middle residual": ("controlnet", "controlnet_mid_block"),
}


@pytest.mark.parametrize(("part", "name"), PARTS.values(), ids=PARTS)
def test_every_part_takes_part_so_that_losing_one_would_be_seen(base, checkpoint, inputs, part, name):
    whole = our_prediction(base, checkpoint, inputs)
    assert difference(whole, our_prediction(base, without(checkpoint, part, name), inputs)) > 100 * SAME


def test_the_adapter_matters(base, checkpoint, inputs, stock_folder):
    with torch.no_grad():
        plain = base(inputs["latents"], inputs["steps"], inputs["text"], return_dict=False)[0]
    bare = our_prediction(base, checkpoint, inputs, pose=False)
    assert difference(plain, bare) > OTHER
    assert difference(bare, our_prediction(base, checkpoint, inputs)) > OTHER
    wrong = stock_prediction(base, checkpoint, inputs, stock_folder, shortcut=not checkpoint.shortcut)
    assert difference(wrong, bare) > OTHER


def test_processors_in_another_order_would_be_seen(base, checkpoint, inputs):
    """Attentions of one width can be exchanged without a complaint of any loader."""

    def exchanged(key):
        index, _, rest = key.partition(".")
        return f"{ {'0': '2', '2': '0', '1': '3', '3': '1'}.get(index, index) }.{rest}"

    other = replace(checkpoint, ip_adapter={exchanged(key): value for key, value in checkpoint.ip_adapter.items()})
    assert other.dimensions() == checkpoint.dimensions()
    assert difference(our_prediction(base, checkpoint, inputs), our_prediction(base, other, inputs)) > OTHER


def test_the_controlnet_sees_the_tokens_not_the_text(base, checkpoint, inputs):
    model = ours(base, checkpoint)
    seen = []
    model.controlnet.register_forward_pre_hook(lambda _, __, named: seen.append(named), with_kwargs=True)
    with torch.no_grad():
        model(*(inputs[name] for name in ("latents", "steps", "text", "identity", "clip", "pose")))
    (arguments,) = seen
    tokens = reference.project(checkpoint.image_proj, inputs["identity"], inputs["clip"], checkpoint.shortcut)
    assert difference(arguments["encoder_hidden_states"], tokens) < SAME


@pytest.mark.parametrize("scale", [0.0, 0.5, 2.0])
def test_the_scales_are_those_of_the_equations(base, checkpoint, inputs, scale):
    model = ours(base, checkpoint)
    model.unet.set_ip_scale(scale)
    with torch.no_grad():
        tokens = model.projector(inputs["identity"], inputs["clip"], shortcut_scale=1 - scale / 4)
        found = model.unet(inputs["latents"], inputs["steps"], (inputs["text"], [tokens]), return_dict=False)[0]
    expected = written_out(base, checkpoint, inputs, pose=None, ip_scale=scale, shortcut_scale=1 - scale / 4)
    assert difference(found, expected) < SAME
