"""Every layout is read, bit by bit; what is not a whole checkpoint is refused with a reason."""

from __future__ import annotations

import json
import os
import pickle
import re
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from model.checkpoints.layouts import CheckpointError
from model.checkpoints.reading import read
from model.checkpoints.state import bit_equal
from model.checkpoints.writing import write
from tests.model.checkpoints import foreign
from tests.model.folders import CONDITIONS, assert_same, pipeline_folder

TINY = foreign.TINY


@pytest.fixture
def released():
    return foreign.released()


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


def test_an_attention_that_is_under_the_other_name_alone_does_not_shift_those_after_it(released, tmp_path):
    elsewhere = ("4.", "5.")  # the last of the up blocks; the middle block comes after it
    flat = foreign.raw(released)
    for key in list(flat):
        in_list = key.startswith("adapter_modules.") and not key.startswith(
            tuple(f"adapter_modules.{i}" for i in elsewhere)
        )
        if in_list or key.startswith("unet.up_blocks.1.attentions.1.") and ".processor." in key:
            del flat[key]
    torch.save(flat, tmp_path / "pytorch_model.bin")
    assert_same(read(tmp_path), released)


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


def test_the_same_bits_are_the_same_only_in_one_dtype_and_shape():
    zeros = torch.zeros(4, dtype=torch.float16)
    assert bit_equal(zeros, zeros.clone()) and bit_equal(zeros / 0, zeros / 0)
    assert not bit_equal(zeros, -zeros)
    assert not bit_equal(zeros, zeros.to(torch.bfloat16))
    assert not bit_equal(zeros, zeros.view(2, 2))


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


# -- refusals --------------------------------------------------------------------------------------------------------


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
    index_file.write_text(json.dumps({"weight_map": {"a": index_file.name}}))  # itself, and again
    with pytest.raises(CheckpointError, match="indices for shards"):
        read(folder)


def test_our_own_file_without_its_controlnet_is_refused(released, tmp_path):
    write(released, tmp_path / "a.safetensors", "facemakeup")
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        kept = {key: file.get_tensor(key) for key in file.keys() if not key.startswith("controlnet.")}
        save_file(kept, tmp_path / "b.safetensors", file.metadata())
    with pytest.raises(CheckpointError, match=r"has no controlnet\.\*"):
        read(tmp_path / "b.safetensors")
