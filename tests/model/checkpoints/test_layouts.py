"""Names and shapes of a checkpoint, against the published ones and against diffusers."""

from __future__ import annotations

import math
import random

import pytest
import torch
from diffusers import ControlNetModel

from model.checkpoints import controlnet_layout
from model.checkpoints.layouts import (
    CheckpointError,
    image_proj_shapes,
    ip_adapter_shapes,
    measure,
    processor_order,
)
from model.checkpoints.on_model import require_fit
from tests.model.checkpoints import foreign

SD15, TINY = foreign.SD15, foreign.TINY


def parts(dimensions):
    return (
        image_proj_shapes(dimensions.identity, dimensions.clip, dimensions.token),
        ip_adapter_shapes(dimensions.widths, dimensions.token, dimensions.rank),
    )


def numbers(shapes):
    return sum(math.prod(shape) for shape in shapes.values())


def test_the_tables_are_the_released_checkpoint_to_the_byte():
    image_proj, ip_adapter = parts(SD15)
    assert (len(image_proj), numbers(image_proj)) == (56, 33_581_568)
    assert (len(ip_adapter), numbers(ip_adapter)) == (288, 44_679_168)
    assert image_proj["perceiver_resampler.layers.3.0.to_kv.weight"] == (1536, 768)
    assert image_proj["proj.2.weight"] == (3072, 1024)
    assert ip_adapter["13.to_k_ip.weight"] == (1280, 768)
    assert ip_adapter["18.to_k_lora.down.weight"] == (128, 640)
    assert ip_adapter["19.to_k_lora.down.weight"] == (128, 768)
    with torch.device("meta"):
        controlnet = ControlNetModel(cross_attention_dim=768).state_dict()
    assert (
        4 * (numbers(image_proj) + sum(v.numel() for v in controlnet.values())) + 2 * numbers(ip_adapter)
        == 1_668_801_088
    )


@pytest.mark.parametrize("dimensions", [SD15, TINY, foreign.SDXL], ids=["sd15", "tiny", "sdxl"])
def test_dimensions_are_read_out_of_the_shapes(dimensions):
    assert measure(*parts(dimensions)) == dimensions


# -- order of the attentions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [foreign.SD15_UNET, foreign.TINY_UNET], ids=["sd15", "tiny"])
def test_the_order_from_names_alone_is_that_of_diffusers(config):
    theirs = foreign.attention_names(config)
    shuffled = random.Random(0).sample(theirs, len(theirs))
    assert processor_order(shuffled) == {name: index for index, name in enumerate(theirs)}


def test_order_is_numeric():
    names = [f"down_blocks.1.attentions.{n}.transformer_blocks.0.attn{k}" for n in range(11) for k in (2, 1)]
    order = processor_order(names)
    assert order["down_blocks.1.attentions.2.transformer_blocks.0.attn1"] == 4
    assert order["down_blocks.1.attentions.10.transformer_blocks.0.attn2"] == 21


@pytest.mark.parametrize(
    "lost", ["mid_block.attentions.0.transformer_blocks.0.attn1", "up_blocks.1.attentions.0.transformer_blocks.0.attn2"]
)
def test_a_gap_in_the_names_is_refused_because_it_shifts_the_rest(lost):
    names = foreign.attention_names(foreign.TINY_UNET)
    names.remove(lost)
    with pytest.raises(CheckpointError, match=lost.replace(".", r"\.")):
        processor_order(names)


def test_an_attention_that_is_lost_whole_is_noticed_by_its_number():
    names = [name for name in foreign.attention_names(foreign.SD15_UNET) if "up_blocks.2.attentions.1." not in name]
    with pytest.raises(CheckpointError, match=r"up_blocks\.2\.attentions\.1"):
        processor_order(names)


def test_names_of_another_network_are_refused():
    with pytest.raises(CheckpointError, match="not of a UNet2DConditionModel"):
        processor_order(["transformer_blocks.0.attn1"])


# -- refusals --------------------------------------------------------------------------------------------------


def broken(change):
    image_proj, ip_adapter = parts(TINY)
    change(image_proj, ip_adapter)
    return image_proj, ip_adapter


REFUSED = {
    "empty adapter": (lambda p, a: a.clear(), r"ip_adapter is empty.*accelerate.*safe_serialization=False"),
    "partial adapter": (lambda p, a: a.pop("5.to_v_lora.up.weight"), r"lacks 1 of 72 keys: 5\.to_v_lora\.up\.weight.*accelerate"),
    "half the adapter": (lambda p, a: [a.pop(k) for k in list(a) if int(k[0]) % 2 == 0], r"lacks 32 of 72 keys: .* and 22 more"),
    "LoRA only": (lambda p, a: [a.pop(k) for k in list(a) if "_ip" in k], r"lacks 8 of 72 keys: 1\.to_k_ip\.weight"),
    "folded": (lambda p, a: [a.pop(k) for k in list(a) if "_lora" in k], r"no LoRA.*before folding"),
    "foreign key": (lambda p, a: a.update({"1.to_k_ip.bias": (64,)}), r"do not belong there: 1\.to_k_ip\.bias"),
    "no projector key": (lambda p, a: p.pop("norm.bias"), r"image_proj lacks 1 of 56 keys: norm\.bias"),
    "projector extra": (lambda p, a: p.update({"pos_emb": (4, 128)}), r"image_proj has 1 keys that do not belong there: pos_emb"),
    "depth 5": (lambda p, a: p.update({"perceiver_resampler.layers.4.0.to_q.weight": (128, 128)}), r"5 resampler layers.*build 4"),
    "16 tokens": (lambda p, a: p.update({"proj.2.weight": (16 * 128, 256), "proj.2.bias": (16 * 128,)}), r"16 tokens of 128"),
    "heads unlike 64": (lambda p, a: (p.update(image_proj_shapes(128, 64, 96)), a.update(ip_adapter_shapes(TINY.widths, 96, 8))), r"not a multiple of 64"),
    "one shape": (lambda p, a: a.update({"3.to_k_lora.down.weight": (8, 64)}), r"ip_adapter\.3\.to_k_lora\.down\.weight \(8, 64\) instead of \(8, 128\)"),
    "one rank": (lambda p, a: a.update({"2.to_q_lora.up.weight": (64, 4)}), r"instead of \(64, 8\)"),
    "other hidden size": (lambda p, a: p.update({"proj.0.weight": (512, 128)}), r"proj\.0\.weight \(512, 128\) instead of \(256, 128\)"),
    "a vector": (lambda p, a: p.update({"proj.0.weight": (128,)}), r"a matrix is expected"),
    "adapter for another text width": (lambda p, a: a.update(ip_adapter_shapes(TINY.widths, 192, 8)), r"contradict.*\(64, 192\) instead of \(64, 128\)"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_whole_is_refused_by_name(change, message):
    with pytest.raises(CheckpointError, match=message):
        measure(*broken(change))


def test_a_checkpoint_fits_only_the_base_that_it_was_trained_for():
    require_fit(SD15, foreign.SD15_UNET)
    with pytest.raises(
        CheckpointError, match=r"2048 \(the size of SDXL\) and 140 attentions.* the base has 768 and 32"
    ):
        require_fit(foreign.SDXL, foreign.SD15_UNET)
    with pytest.raises(CheckpointError, match="8 attentions"):
        require_fit(TINY, foreign.SD15_UNET)


# -- ControlNet ------------------------------------------------------------------------------------------------


def sd15_controlnet():
    with torch.device("meta"):
        model = ControlNetModel(cross_attention_dim=768)
    return model, {key: tuple(value.shape) for key, value in model.state_dict().items()}


def test_a_controlnets_configuration_is_in_its_shapes():
    model, shapes = sd15_controlnet()
    found = controlnet_layout.full_config(shapes)
    assert found["attention_head_dim"] == 8
    assert {key: model.config[key] for key in found} == found


def test_a_controlnet_of_other_sizes_needs_its_heads_said():
    shapes = foreign.controlnet_shapes()
    with pytest.raises(CheckpointError, match="heads is in no tensor.*--base"):
        controlnet_layout.full_config(shapes)
    assert controlnet_layout.full_config(shapes, unet=foreign.TINY_UNET)["attention_head_dim"] == 4
    assert controlnet_layout.full_config(shapes, stored={"attention_head_dim": 2})["attention_head_dim"] == 2


CONTROLNET_REFUSED = {
    "missing": (lambda s: s.pop("controlnet_mid_block.weight"), r"lacks 1 of \d+ keys: controlnet_mid_block\.weight"),
    "extra": (lambda s: s.update({"conv_out.weight": (4, 64, 3, 3)}), r"has 1 keys.*conv_out\.weight"),
    "shape": (lambda s: s.update({"controlnet_mid_block.weight": (64, 64, 1, 1)}), r"controlnet_mid_block\.weight \(64, 64, 1, 1\)"),
    "nothing of it": (lambda s: [s.pop(key) for key in list(s) if key != "conv_in.weight"], "not a whole diffusers ControlNet"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), CONTROLNET_REFUSED.values(), ids=CONTROLNET_REFUSED)
def test_a_controlnet_that_is_not_whole_is_refused(change, message):
    shapes = dict(foreign.controlnet_shapes())
    change(shapes)
    with pytest.raises(CheckpointError, match=message):
        controlnet_layout.check(shapes, TINY)


def test_a_controlnet_of_another_model_is_refused():
    _, shapes = sd15_controlnet()
    controlnet_layout.check(shapes, SD15)
    with pytest.raises(CheckpointError, match="width 768, the projector makes 128"):
        controlnet_layout.check(shapes, TINY)
    with pytest.raises(CheckpointError, match="not of one model"):
        controlnet_layout.check(shapes, foreign.Dimensions(512, 1280, 768, 128, (640,) * 32))
