"""Checkpoints: every layout is read, round trips keep every bit, what is not one is refused with a reason."""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from diffusers import ControlNetModel, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from model import checkpoint_writing
from model.checkpoint_state import finite
from model.checkpoints import CheckpointError, bit_equal, convert, inspect, main, read, write
from model.face_unet import FaceUNet
from model.projector import FaceProjector
from tests.model import foreign

TINY = foreign.TINY
CONDITIONS = {"identity_encoder": "dlib", "align_size": 112, "channel_order": "rgb"}


@pytest.fixture
def released():
    return foreign.released()


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A base model's folder, as far as conversion looks into it."""
    folder = tmp_path_factory.mktemp("base")
    (folder / "unet").mkdir()
    (folder / "unet" / "config.json").write_text(json.dumps(foreign.TINY_UNET))
    return folder


def assert_same(one, other):
    assert one.parts.keys() == other.parts.keys()
    for part, tensors in one.parts.items():
        assert tensors.keys() == other.parts[part].keys()
        changed = [key for key, value in tensors.items() if not bit_equal(value, other.parts[part][key])]
        assert not changed, f"{part}: {changed[:3]}"


def pipeline_folder(checkpoint, folder):
    """What the pipeline's `save_pretrained` leaves of the trained parts."""
    unet = FaceUNet.from_config(foreign.TINY_UNET).attach(TINY.rank)
    unet.load_ip_adapter_state(checkpoint.ip_adapter, assign=True)
    unet.save_pretrained(folder / "unet")
    projector = FaceProjector(TINY.identity, TINY.clip, TINY.token, shortcut=checkpoint.shortcut)
    projector.load_image_proj_state(checkpoint.image_proj, assign=True)
    projector.save_pretrained(folder / "projector")
    controlnet = ControlNetModel.from_unet(UNet2DConditionModel(**foreign.TINY_UNET))
    controlnet.load_state_dict(checkpoint.controlnet)
    controlnet.save_pretrained(folder / "controlnet")
    (folder / "model_index.json").write_text(json.dumps({"conditions": CONDITIONS}))
    return folder


# -- reading ---------------------------------------------------------------------------------------------------


def test_the_authors_file_is_read_in_its_mixed_dtypes(released, tmp_path):
    found = read(foreign.authors_bin(released, tmp_path / "model.bin"))
    assert_same(found, released)
    assert found.ip_adapter["0.to_q_lora.up.weight"].dtype == torch.bfloat16
    assert found.image_proj["norm.weight"].dtype == torch.float32
    assert found.metadata == {"layout": "authors", "shortcut": "true"}
    assert found.dimensions() == TINY


@pytest.mark.parametrize(
    ("name", "shortcut"),
    [
        ("ip-adapter-faceid-plusv2_sd15.bin", True),
        ("ip-adapter-faceid-plus_sd15.bin", False),
        ("ip-adapter-faceid-plusv2_sd15.safetensors", True),
        ("ip-adapter-faceid-plus_sd15.safetensors", False),
    ],
)
def test_faceid_plus_is_read_and_its_version_is_in_its_name(tmp_path, name, shortcut):
    theirs = foreign.released(controlnet=False)
    save = foreign.prefixed_safetensors if name.endswith("safetensors") else foreign.authors_bin
    found = read(save(theirs, tmp_path / name))
    assert_same(found, theirs)
    assert (found.metadata["layout"], found.shortcut) == ("ip-adapter", shortcut)
    assert read(tmp_path / name, shortcut=not shortcut).shortcut is not shortcut  # what the caller says, counts


def test_a_version_that_nobody_says_is_asked_for(tmp_path):
    file = foreign.authors_bin(foreign.released(controlnet=False), tmp_path / "face.bin")
    with pytest.raises(CheckpointError, match="--no-shortcut for v1 .* or --shortcut for v2"):
        read(file)
    assert read(file, shortcut=False).shortcut is False


@pytest.mark.parametrize("aliases", [("list",), ("unet",), ("list", "unet")], ids="+".join)
@pytest.mark.parametrize("kind", ["safetensors", "bin", "sharded-safetensors", "sharded-bin"])
def test_a_trainers_raw_output_is_read_under_either_name_or_both(released, tmp_path, aliases, kind):
    flat = foreign.raw(released, aliases)
    folder = foreign.accelerate_folder(flat, tmp_path / "checkpoint-2000", kind)
    found = read(folder)
    assert_same(found, released)
    assert found.metadata == {"layout": "raw", "shortcut": "true", "frozen_ignored": "33"}


def test_raw_output_half_under_each_name_is_whole(released, tmp_path):
    flat = foreign.raw(released)
    in_list = [key for key in flat if key.startswith("adapter_modules.")]
    in_unet = [key for key in flat if ".processor." in key]
    for dropped in (in_list[::2], in_unet[1::2]):
        for key in dropped:
            flat.pop(key)
    torch.save(flat, tmp_path / "pytorch_model.bin")
    assert_same(read(tmp_path / "pytorch_model.bin"), released)


def test_raw_output_may_spell_controlnet_rightly_and_be_wrapped(released, tmp_path):
    flat = {f"module.{key}": value for key, value in foreign.raw(released, controlnet="controlnet").items()}
    save_file(flat, tmp_path / "model.safetensors")
    assert_same(read(tmp_path / "model.safetensors"), released)


def test_two_names_that_disagree_are_refused(released, tmp_path):
    flat = foreign.raw(released)
    flat["adapter_modules.3.to_k_ip.weight"] = flat["adapter_modules.3.to_k_ip.weight"].clone()
    flat["adapter_modules.3.to_k_ip.weight"][0, 0] += 1
    torch.save(flat, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"adapter_modules\.3\.to_k_ip\.weight.* differ"):
        read(tmp_path)


def test_raw_output_without_its_adapter_says_why(released, tmp_path):
    flat = {
        key: value for key, value in foreign.raw(released).items() if "processor" not in key and "modules" not in key
    }
    torch.save(flat, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="ip_adapter is empty.*accelerate.*keeps one"):
        read(tmp_path)


def test_an_exported_pipeline_is_read_with_its_conditions(released, tmp_path):
    found = read(pipeline_folder(replace(released, metadata={"shortcut": "false"}), tmp_path / "pipeline"))
    assert_same(found, released)
    assert found.shortcut is False
    assert json.loads(found.metadata["conditions"]) == CONDITIONS
    assert found.metadata["layout"] == "pipeline"


# -- round trips -----------------------------------------------------------------------------------------------

SOURCES = {
    "authors": lambda c, d: foreign.authors_bin(c, d / "model.bin"),
    "facemakeup": lambda c, d: foreign.prefixed_safetensors(c, d / "in.safetensors"),
    "raw": lambda c, d: foreign.accelerate_folder(foreign.raw(c), d / "raw", "bin"),
    "pipeline": lambda c, d: pipeline_folder(c, d / "pipeline"),
}
TARGETS = {"authors": "out.bin", "facemakeup": "out.safetensors", "diffusers": "out"}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("source", SOURCES)
def test_every_layout_to_every_other_keeps_every_bit(released, tmp_path, base, source, target):
    there = SOURCES[source](released, tmp_path)
    convert(there, tmp_path / TARGETS[target], target, base=base, shortcut=True)
    assert_same(read(tmp_path / TARGETS[target]), released)
    convert(tmp_path / TARGETS[target], tmp_path / "back.bin", "authors")
    assert_same(read(tmp_path / "back.bin"), released)


@pytest.mark.parametrize("name", ["faceid-plusv2.bin", "faceid-plusv2.safetensors"])
def test_the_ip_adapter_layout_drops_the_pose_branch_and_says_so(released, tmp_path, name):
    notes = write(released, tmp_path / name, "ip-adapter")
    assert any("pose branch (ControlNet) is not in this layout" in note for note in notes)
    assert_same(read(tmp_path / name), replace(released, controlnet=None))


def test_files_are_exactly_as_others_expect_them(released, tmp_path):
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


# -- stock diffusers -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stock_base(tmp_path_factory):
    """A tiny Stable Diffusion in diffusers' own layout, with a vocabulary of letters."""
    from diffusers import AutoencoderKL
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    from model.config import load_config

    config = load_config("tiny")
    torch.manual_seed(0)
    words = [c + end for c in "abcdefghijklmnopqrstuvwxyz" for end in ("", "</w>")] + [
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    text = config.text_encoder | {
        "vocab_size": len(words),
        "bos_token_id": len(words) - 2,
        "eos_token_id": len(words) - 1,
    }
    folder = tmp_path_factory.mktemp("stock")
    StableDiffusionPipeline(
        vae=AutoencoderKL.from_config(config.vae),
        text_encoder=CLIPTextModel(CLIPTextConfig(**text)),
        tokenizer=CLIPTokenizer(vocab={w: n for n, w in enumerate(words)}, merges=[], model_max_length=77),
        unet=UNet2DConditionModel(**config.unet),
        scheduler=DDIMScheduler.from_config(config.scheduler),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


def test_the_model_cards_snippet_runs_as_it_stands(released, tmp_path, stock_base):
    released.metadata["conditions"] = json.dumps(CONDITIONS)
    write(released, tmp_path / "stock", "diffusers", base=stock_base)
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
            "base": stock_base,
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


def test_our_own_file_is_read_by_stock_diffusers_as_it_is(released, tmp_path, stock_base):
    write(released, tmp_path / "face.safetensors", "facemakeup")
    pipe = StableDiffusionPipeline.from_pretrained(stock_base)
    pipe.load_ip_adapter(tmp_path, subfolder="", weight_name="face.safetensors", image_encoder_folder=None)
    up = pipe.unet.mid_block.attentions[0].transformer_blocks[0].attn2.to_out[0].lora_B["faceid_0"].weight
    assert torch.equal(up.detach(), released.ip_adapter["7.to_out_lora.up.weight"].float())


# -- refusals --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", foreign.OTHER_MODELS)
def test_what_is_something_else_is_told_what_it_is(tmp_path, name):
    content, words = foreign.OTHER_MODELS[name]
    files = [tmp_path / "file.bin"]
    torch.save(content, files[0])
    if name != "ZeRO piece":  # DeepSpeed writes pickles only
        files.append(tmp_path / "file.safetensors")
        flat = {f"{k}.{inner}": t for k, v in content.items() if isinstance(v, dict) for inner, t in v.items()}
        save_file(flat or content, files[1])
    for file in files:
        with pytest.raises(CheckpointError, match=re.escape(words)) as refusal:
            read(file)
        assert str(file) in str(refusal.value)


class Intruder:
    def __reduce__(self):
        return os.mkdir, ("intruded",)


def damaged(tmp_path, released, kind):
    file = tmp_path / "model.bin"
    if kind.startswith("safetensors"):
        file = foreign.prefixed_safetensors(released, tmp_path / "model.safetensors")
    elif kind == "pickle protocol 2":
        file.write_bytes(pickle.dumps({"image_proj": Intruder()}, protocol=2))
        return file
    elif kind == "code":
        torch.save({"image_proj": Intruder()}, file)
        return file
    else:
        foreign.authors_bin(released, file)
    whole = file.read_bytes()
    file.write_bytes(
        {
            "absent": whole,
            "empty": b"",
            "cut": whole[: len(whole) // 2],
            "safetensors cut": whole[: len(whole) // 2],
            "safetensors header cut": whole[:100],
            "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
            "page": b"<!DOCTYPE html><html></html>",
            "noise": bytes(range(1, 200)),
        }[kind]
    )
    if kind == "absent":
        file.unlink()
    return file


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("absent", "no such file"),
        ("empty", "is empty; download it again"),
        ("cut", "truncated or damaged"),
        ("safetensors cut", "truncated or damaged"),
        ("safetensors header cut", "truncated or damaged"),
        ("lfs", "git lfs pull"),
        ("page", "is a web page"),
        ("noise", "neither a safetensors file nor a torch pickle"),
        ("code", r"asks for posix\.mkdir when it is loaded: that would run code"),
        ("pickle protocol 2", r"asks for posix\.mkdir when it is loaded: that would run code"),
    ],
)
def test_files_that_are_broken_or_hostile_are_refused_and_nothing_runs(released, tmp_path, monkeypatch, kind, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=words):
        read(damaged(tmp_path, released, kind))
    assert not (tmp_path / "intruded").exists()


def test_a_list_a_number_and_integers_are_no_checkpoint(released, tmp_path):
    torch.save([torch.zeros(1)], tmp_path / "list.bin")
    torch.save({"image_proj": {"norm.weight": 1.0}, "ip_adapter": {}}, tmp_path / "number.bin")
    released.ip_adapter["0.to_q_lora.up.weight"] = released.ip_adapter["0.to_q_lora.up.weight"].to(torch.int8)
    foreign.authors_bin(released, tmp_path / "int.bin")
    for name, words in {"list": "holds a list", "number": "a float, not a tensor", "int": "int8; quantised"}.items():
        with pytest.raises(CheckpointError, match=words):
            read(tmp_path / f"{name}.bin")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["zero_to_fp32.py", "latest"], r"DeepSpeed ZeRO.*zero_to_fp32\.py"),
        (["global_step5/bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt"], r"DeepSpeed ZeRO.*zero_to_fp32\.py"),
        (["random_states_0.pkl"], "holds no checkpoint"),
        (["model.safetensors", "pytorch_model.bin"], "say which"),
    ],
)
def test_folders_that_are_no_checkpoint(tmp_path, files, words):
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(CheckpointError, match=words):
        read(tmp_path)


def test_sharded_folders_are_whole_or_refused(released, tmp_path):
    folder = foreign.accelerate_folder(foreign.raw(released), tmp_path / "raw", "sharded-safetensors")
    index_file = folder / "model.safetensors.index.json"
    index = json.loads(index_file.read_text())
    index["weight_map"]["unet.lost"] = "model-00001-of-00002.safetensors"
    index_file.write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"lacks unet\.lost"):
        read(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model-00002-of-00002\.safetensors, which are not there"):
        read(folder)
    index_file.write_text(json.dumps({"weight_map": {"a": "../../elsewhere.safetensors"}}))
    with pytest.raises(CheckpointError, match="outside its folder"):
        read(folder)


def test_our_own_file_without_its_controlnet_is_refused(released, tmp_path):
    write(released, tmp_path / "a.safetensors", "facemakeup")
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        kept = {key: file.get_tensor(key) for key in file.keys() if not key.startswith("controlnet.")}
        save_file(kept, tmp_path / "b.safetensors", file.metadata())
    with pytest.raises(CheckpointError, match=r"has no controlnet\.\*"):
        read(tmp_path / "b.safetensors")


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
        ("faceid-plus_sd15.bin", "ip-adapter", {}, "would be taken for shortcut=False; remedy: a name with `plusv2`"),
    ],
)
def test_requests_that_cannot_be_are_refused_before_anything_is_written(
    released, tmp_path, name, layout, options, words
):
    with pytest.raises(CheckpointError, match=words):
        write(released, tmp_path / name, layout, **options)
    assert not list(tmp_path.iterdir())


def test_a_base_of_another_size_is_refused(released, tmp_path):
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text(json.dumps(foreign.SD15_UNET))
    with pytest.raises(CheckpointError, match="take the base model that it was trained for"):
        write(released, tmp_path / "out", "diffusers", base=tmp_path)


# -- what may be lost, and what may not ------------------------------------------------------------------------


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


# -- command line ----------------------------------------------------------------------------------------------


def test_inspect_says_what_it_is(released, tmp_path, capsys):
    file = foreign.authors_bin(released, tmp_path / "model.bin")
    assert main(["inspect", str(file), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report == inspect(file)
    assert (report["layout"], report["shortcut"], report["rank"], report["tokens"]) == ("authors", True, 8, 4)
    assert (report["identity_dim"], report["clip_dim"], report["cross_attention_dim"]) == (128, 64, 128)
    adapter = report["parts"]["ip_adapter"]
    assert adapter["dtypes"] == {"bfloat16": 72} and adapter["bytes"] == 2 * adapter["parameters"]
    assert report["lacks"] == [] and report["non_finite"] == {} and len(report["sha256"]) == 64
    assert main(["inspect", str(file)]) == 0
    assert "complete and consistent" in capsys.readouterr().out


def test_inspect_says_what_is_missing_and_what_is_not_finite(released, tmp_path, capsys):
    del released.ip_adapter["5.to_k_ip.weight"]
    released.controlnet["conv_in.bias"][0] = float("inf")
    assert main(["inspect", str(foreign.authors_bin(released, tmp_path / "model.bin"))]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "lacks 1 of 72 keys: 5.to_k_ip.weight" in printed
    assert "1 numbers of controlnet.conv_in.bias" in printed
    assert main(["inspect", str(foreign.authors_bin(foreign.released(controlnet=False), tmp_path / "x.bin"))]) == 1
    assert "shortcut: unknown" in capsys.readouterr().out


def test_convert_prints_what_it_did_or_why_not(released, tmp_path, capsys):
    source = str(foreign.accelerate_folder(foreign.raw(released), tmp_path / "raw", "bin"))
    target = str(tmp_path / "plusv2.safetensors")
    assert main(["convert", source, target, "--to", "ip-adapter", "--dtype", "fp16"]) == 0
    printed = capsys.readouterr().out
    assert "ip-adapter, from raw" in printed and "LOSSY" in printed and "it is dropped" in printed
    assert main(["convert", source, target, "--to", "ip-adapter"]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("refused: ") and "--force" in printed.err and not printed.out
    assert main(["convert", target, target, "--to", "ip-adapter", "--force"]) == 2
    assert "both IN and OUT" in capsys.readouterr().err


def test_help_does_not_wait_for_torch():
    code = "import sys, model.checkpoints as c\ntry: c.main(['--help'])\nfinally: assert 'torch' not in sys.modules, 'torch'"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "pipeline    a folder for DiffusionPipeline" in done.stdout, done.stderr
