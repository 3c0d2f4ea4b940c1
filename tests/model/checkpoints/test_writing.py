"""Checkpoints are written whole or not at all, bit by bit, and others load them."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
import torch
from diffusers import ControlNetModel, StableDiffusionPipeline
from safetensors.torch import load_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from model.checkpoints import writing as checkpoint_writing
from model.checkpoints.convert import convert
from model.checkpoints.layouts import CheckpointError
from model.checkpoints.reading import read
from model.checkpoints.state import finite
from model.checkpoints.writing import write
from tests.model import folders
from tests.model.checkpoints import foreign
from tests.model.folders import CONDITIONS, assert_same, pipeline_folder

TINY = foreign.TINY


@pytest.fixture
def released():
    return foreign.released()


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return folders.stock_base(tmp_path_factory.mktemp("base"))


# -- round trips -----------------------------------------------------------------------------------------------------


SOURCES = {
    "authors": lambda c, d: foreign.authors_bin(c, d / "model.bin"),
    "facemakeup": lambda c, d: foreign.prefixed_safetensors(c, d / "in.safetensors"),
    "raw": lambda c, d: foreign.accelerate_folder(foreign.raw(c), d / "raw", "bin"),
    "pipeline": lambda c, d: pipeline_folder(c, d / "in"),
}
TARGETS = {"authors": "out.bin", "facemakeup": "out.safetensors", "diffusers": "out", "pipeline": "out"}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("source", SOURCES)
def test_every_layout_to_every_other_keeps_every_bit(released, tmp_path, base, source, target):
    there = SOURCES[source](released, tmp_path)
    convert(there, tmp_path / TARGETS[target], target, base=base, shortcut=True)
    assert_same(read(tmp_path / TARGETS[target]), released)
    convert(tmp_path / TARGETS[target], tmp_path / "back.bin", "authors")
    assert_same(read(tmp_path / "back.bin"), released)


def test_a_folded_pipeline_has_no_lora_left_and_says_so(released, tmp_path, base):
    notes = write(released, tmp_path / "folded", "pipeline", base=base, fold_lora=True)
    assert any(re.search(r"LOSSY: LoRA folded into the UNet; .* at most \d", note) for note in notes)
    notes = write(read(tmp_path / "folded"), tmp_path / "again.bin", "authors")
    assert any("every LoRA is zero" in note for note in notes)


@pytest.mark.parametrize("name", ["faceid-plusv2.bin", "faceid-plusv2.safetensors"])
def test_the_ip_adapter_layout_drops_the_pose_branch_and_says_so(released, tmp_path, name):
    notes = write(released, tmp_path / name, "ip-adapter")
    assert any("pose branch (ControlNet) is not in this layout" in note for note in notes)
    assert_same(read(tmp_path / name), replace(released, controlnet=None))


def test_files_are_exactly_as_others_expect_them(released, tmp_path):
    large = torch.zeros(10_000, 1_000)  # of which a tensor is a small part
    released.image_proj["norm.weight"] = large[0, : TINY.token]
    write(released, tmp_path / "model.bin", "authors")
    theirs = torch.load(tmp_path / "model.bin", weights_only=True)
    assert list(theirs) == ["image_proj", "ip_adapter", "controlnet"]
    assert {type(part).__name__ for part in theirs.values()} == {"OrderedDict"}
    write(released, tmp_path / "ours.safetensors", "facemakeup")
    prefixes = {key.partition(".")[0] for key in load_file(tmp_path / "ours.safetensors")}
    assert prefixes == {"image_proj", "ip_adapter", "controlnet"}
    size = sum(v.nbytes for part in released.parts.values() for v in part.values())
    assert size < (tmp_path / "model.bin").stat().st_size < size * 1.1  # no storage is dragged along


def test_metadata_stays_in_safetensors_and_its_loss_is_said(released, tmp_path):
    released.metadata |= {"conditions": json.dumps(CONDITIONS), "steps": "500"}
    write(released, tmp_path / "a.safetensors", "facemakeup")
    found = read(tmp_path / "a.safetensors")
    assert found.metadata == released.metadata | {"layout": "facemakeup", "origin": "authors"}
    notes = write(found, tmp_path / "model.bin", "authors")
    assert any("conditions, steps" in note for note in notes)


def test_a_controlnets_heads_travel_in_our_own_file(released, tmp_path, base):
    with pytest.raises(CheckpointError, match="--base"):
        write(released, tmp_path / "stock", "diffusers")
    assert not (tmp_path / "stock").exists()
    write(released, tmp_path / "stock", "diffusers", base=base)
    convert(tmp_path / "stock", tmp_path / "one.safetensors", "facemakeup")
    convert(tmp_path / "one.safetensors", tmp_path / "again", "diffusers")
    assert ControlNetModel.from_pretrained(tmp_path / "again" / "controlnet").config.attention_head_dim == 4


# -- stock diffusers -------------------------------------------------------------------------------------------------


def test_the_model_cards_snippet_runs_as_it_stands(released, tmp_path, base):
    released.metadata["conditions"] = json.dumps(CONDITIONS)
    write(released, tmp_path / "stock", "diffusers", base=base)
    card = (tmp_path / "stock" / "README.md").read_text()
    assert "encoder: dlib; its channel order: rgb" in card
    assert "hands the ControlNet the text" in card and "without the pose branch" in card
    (snippet,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    snippet = snippet.replace(
        "num_inference_steps=50", 'num_inference_steps=2, output_type="np", generator=torch.manual_seed(0)'
    )
    generator = torch.Generator().manual_seed(1)

    def draw(identity):
        clip = torch.randn(1, 17, TINY.clip, generator=torch.Generator().manual_seed(2))
        names = {
            "base": base,
            "folder": tmp_path / "stock",
            "identity": identity,
            "clip": clip,
            "clip_of_black": clip * 0,
        }
        exec(snippet, names)
        return names

    one, other = (draw(torch.randn(1, TINY.identity, generator=generator)) for _ in range(2))
    assert one["projection"].shortcut is True
    assert abs(one["image"] - other["image"]).max() > 0.01
    assert list(one["pipe"].get_active_adapters()) == ["faceid_0"]  # the LoRA is in


def test_our_own_file_is_read_by_stock_diffusers_as_it_is(released, tmp_path, base):
    write(released, tmp_path / "face.safetensors", "facemakeup")
    pipe = StableDiffusionPipeline.from_pretrained(base)
    pipe.load_ip_adapter(tmp_path, subfolder="", weight_name="face.safetensors", image_encoder_folder=None)
    up = pipe.unet.mid_block.attentions[0].transformer_blocks[0].attn2.to_out[0].lora_B["faceid_0"].weight
    assert torch.equal(up.detach(), released.ip_adapter["7.to_out_lora.up.weight"].float())


# -- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["authors", "facemakeup", "pipeline"])
def test_a_layout_with_a_controlnet_is_not_written_without_one(tmp_path, base, layout):
    name = {"authors": "a.bin", "facemakeup": "a.safetensors", "pipeline": "a"}[layout]
    with pytest.raises(
        CheckpointError, match="has a ControlNet and this checkpoint .* has none; remedy: --to ip-adapter"
    ):
        write(foreign.released(controlnet=False), tmp_path / name, layout, base=base)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "layout", "options", "words"),
    [
        ("a.bin", "facemakeup", {}, r"ends in \.safetensors"),
        ("a.safetensors", "diffusers", {}, "is a folder"),
        ("a", "pipeline", {}, "--base"),
        ("a.bin", "authors", {"fold_lora": True}, "--to pipeline"),
        ("a.bin", "authors", {"dtype": "int8"}, "no dtype 'int8'"),
        ("a.bin", "webui", {}, "no layout 'webui'"),
        ("a", "diffusers", {"base": "nowhere"}, "unet/config.json"),
        ("faceid-plus_sd15.bin", "ip-adapter", {}, "would be read as shortcut=False; remedy: a name with `plusv2`"),
    ],
)
def test_requests_that_cannot_be_are_refused_before_anything_is_written(
    released, tmp_path, name, layout, options, words
):
    with pytest.raises(CheckpointError, match=words):
        write(released, tmp_path / name, layout, **options)
    assert not list(tmp_path.iterdir())


def test_an_image_encoder_of_another_width_is_refused(released, tmp_path, base):
    shape = {"num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 56, "patch_size": 14}
    eyes = CLIPVisionModelWithProjection(CLIPVisionConfig(hidden_size=32, intermediate_size=64, **shape))
    eyes.save_pretrained(tmp_path / "eyes")
    with pytest.raises(CheckpointError, match=r"(?s)no pipeline can be made .*proj_in"):
        write(released, tmp_path / "out", "pipeline", base=base, image_encoder=tmp_path / "eyes")
    assert [path.name for path in tmp_path.iterdir()] == ["eyes"]


def test_a_base_of_another_size_is_refused(released, tmp_path):
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text(json.dumps(foreign.SD15_UNET))
    with pytest.raises(CheckpointError, match="take the base model that it was trained for"):
        write(released, tmp_path / "out", "diffusers", base=tmp_path)


# -- what may be lost, and what may not ------------------------------------------------------------------------------


def test_another_dtype_is_lossy_and_the_loss_is_measured(released, tmp_path):
    (note,) = write(released, tmp_path / "a.safetensors", "facemakeup", dtype="bf16")
    found = read(tmp_path / "a.safetensors")
    assert {v.dtype for part in found.parts.values() for v in part.values()} == {torch.bfloat16}
    pairs = [
        (released.parts[part][key], value) for part, tensors in found.parts.items() for key, value in tensors.items()
    ]
    change = max(float((value.float() - before.float()).abs().max()) for before, value in pairs)
    assert change > 0 and note == f"LOSSY: every number is bf16 now; the largest change is {change:.3g}"
    assert write(released, tmp_path / "b.safetensors", "facemakeup", dtype="fp32") == []  # wider: nothing is lost


def test_numbers_that_are_not_finite_are_refused_unless_asked_for(released, tmp_path):
    released.image_proj["proj.0.bias"][3] = float("nan")
    with pytest.raises(CheckpointError, match=r"image_proj\.proj\.0\.bias \(1\).*--allow-non-finite"):
        write(released, tmp_path / "a.bin", "authors")
    write(released, tmp_path / "a.bin", "authors", allow_non_finite=True)
    assert_same(read(tmp_path / "a.bin"), released)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_one_number_that_is_not_finite_is_found_wherever_it_is(value, dtype):
    for place in (0, 1, 500, 998):
        numbers = torch.linspace(-1, 1, 999, dtype=torch.float32).to(dtype)
        assert finite(numbers)
        numbers[place] = value
        assert not finite(numbers)


def test_a_cast_that_overflows_is_refused(released, tmp_path):
    released.image_proj["proj.0.bias"][3] = 1e6
    with pytest.raises(CheckpointError, match=r"not finite: image_proj\.proj\.0\.bias"):
        write(released, tmp_path / "a.bin", "authors", dtype="fp16")


@pytest.mark.parametrize(("name", "layout"), [("a.bin", "authors"), ("a", "diffusers")])
def test_nothing_is_replaced_unless_forced_and_never_by_half(released, tmp_path, base, monkeypatch, name, layout):
    write(released, tmp_path / name, layout, base=base)
    before = read(tmp_path / name, shortcut=True)
    newer = foreign.released(seed=7)
    with pytest.raises(CheckpointError, match="is there already.*--force"):
        write(newer, tmp_path / name, layout, base=base)

    def fails(*_, **__):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:  # the disk is full in the middle
        patch.setattr(checkpoint_writing, "_owned", fails)
        with pytest.raises(OSError, match="no space"):
            write(newer, tmp_path / name, layout, base=base, force=True)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert_same(read(tmp_path / name), before)
    write(newer, tmp_path / name, layout, base=base, force=True)
    assert_same(read(tmp_path / name), newer)
    assert [path.name for path in tmp_path.iterdir()] == [name]
