"""Broken and wrapped checkpoints: each is read, or refused in one message that says what it is and what would help."""

from __future__ import annotations

import json
import struct

import pytest
import torch
from safetensors.torch import save_file

from common.errors import UserError
from generation.loading import load_for_command
from generation.options import ModelOptions
from model.checkpoints.__main__ import main
from model.checkpoints.reading import read
from model.checkpoints.recognition import shortcut_in_name
from model.checkpoints.state import bit_equal
from tests.model.checkpoints import foreign
from tests.model.folders import assert_same


@pytest.fixture
def released():
    return foreign.released()


@pytest.mark.parametrize(
    "wrapped",
    [
        "_orig_mod.{}".format,
        "module._orig_mod.{}".format,
        "_orig_mod.module.{}".format,
        "_forward_module.{}".format,
        lambda key: f"_orig_mod._fsdp_wrapped_module.{key}".replace(".attn2.", "._checkpoint_wrapped_module.attn2."),
        lambda key: key.replace("image_proj_model.", "image_proj_model._orig_mod."),
        lambda key: key.replace("unet.", "unet._orig_mod.module.").replace("contorlnet.", "contorlnet.module."),
    ],
    ids=["compiled", "compiled in DDP", "DDP compiled", "Lightning", "FSDP", "the projector", "UNet and ControlNet"],
)
def test_names_of_wrappers_do_not_count(released, tmp_path, wrapped):
    flat = {wrapped(key): value for key, value in foreign.raw(released).items()}
    torch.save(flat, tmp_path / "raw.bin")
    assert_same(read(tmp_path / "raw.bin"), released)


def test_names_of_wrappers_do_not_count_inside_a_part(released, tmp_path):
    parts = {part: {f"_orig_mod.{key}": v for key, v in tensors.items()} for part, tensors in released.parts.items()}
    torch.save(parts, tmp_path / "model.bin")
    assert_same(read(tmp_path / "model.bin"), released)


@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.float8_e5m2])
@pytest.mark.parametrize("save", [foreign.authors_bin, foreign.prefixed_safetensors])
def test_numbers_of_8_bits_are_read_without_loss_and_it_is_said(released, tmp_path, capsys, kind, save):
    released.ip_adapter = {key: value.to(kind) for key, value in released.ip_adapter.items()}
    found = read(
        save(released, tmp_path / ("a.bin" if save is foreign.authors_bin else "a.safetensors")), shortcut=True
    )
    assert all(bit_equal(found.ip_adapter[key], value.to(torch.bfloat16)) for key, value in released.ip_adapter.items())
    (note,) = found.notes
    assert note.startswith(f"72 tensors are {str(kind).removeprefix('torch.')}: read as bfloat16")


@pytest.mark.parametrize(
    ("name", "shortcut"),
    [
        ("ip-adapter-faceid-plusv2_sd15.bin", True),
        ("faceid plus v2.bin", True),
        ("FaceID_Plus-V-2.safetensors", True),
        ("ip-adapter-faceid-plus_sd15.bin", False),
        ("faceid plus v21.bin", False),
        ("faceid-plus_sd15_v2.bin", None),
        ("model.bin", None),
    ],
)
def test_a_version_in_a_name_is_known_however_it_is_spelt(tmp_path, name, shortcut):
    assert shortcut_in_name(tmp_path / name) is shortcut


def test_that_a_name_decided_is_said(tmp_path, capsys):
    file = foreign.authors_bin(foreign.released(controlnet=False), tmp_path / "faceid plus v2.bin")
    assert main(["inspect", str(file)]) == 0
    assert "FaceID-Plus v2 by the name faceid plus v2.bin" in " ".join(capsys.readouterr().out.split())
    assert main(["convert", str(file), str(tmp_path / "a.safetensors"), "--to", "ip-adapter"]) == 0
    assert "by the name faceid plus v2.bin" in capsys.readouterr().out
    assert read(file, shortcut=False).notes == []


# -- what cannot be read ------------------------------------------------------------------------------------------------


def raw_safetensors(file, dtype, data):
    header = json.dumps({"image_proj.a": {"dtype": dtype, "shape": [4, 4], "data_offsets": [0, len(data)]}}).encode()
    file.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return file


def saved(file, tensors, **options):
    torch.save(tensors, file, **options)
    return file


def program(file):
    torch.jit.script(torch.nn.Identity()).save(str(file))
    return file


def index_of(folder, text):
    file = folder / "model.safetensors.index.json"
    file.write_text(text)
    return file


def folder_of(folder, *names):
    folder.mkdir()
    for name in names:
        save_file({"a": torch.zeros(1)}, folder / name)
    return folder


def meta(folder):
    flat = foreign.raw(foreign.released())
    return saved(folder / "raw.bin", {key: torch.empty_like(value, device="meta") for key, value in flat.items()})


def remnants(folder):
    return saved(folder / "raw.bin", {key: torch.empty(0) for key in foreign.raw(foreign.released())})


def training_checkpoint(folder):
    place = folder_of(folder / "step-000000050", "part-0-of-1.safetensors")
    (place / "manifest.json").write_text("{}")
    return place


ADAPTER = {"image_proj": {"proj.0.weight": torch.zeros(2, 2)}, "ip_adapter": {}}
BROKEN = {
    "meta tensors": (meta, "names and shapes without numbers", "accelerator.get_state_dict"),
    "ZeRO-3 remnants": (remnants, "holds empty tensors", "python zero_to_fp32.py . consolidated"),
    "both wrapped and bare": (
        lambda folder: saved(folder / "a.bin", {"module.unet.a": torch.zeros(1), "unet.a": torch.ones(1)}),
        "two names of one tensor", "save the state_dict",
    ),
    "scaled float8": (
        lambda folder: saved(folder / "a.bin", {"unet.a": torch.zeros(1).to(torch.float8_e5m2), "unet.a.scale_weight": torch.ones(1)}),
        "scaled 8-bit weights", "fp16, bf16 or fp32 version",
    ),
    "float4": (lambda folder: raw_safetensors(folder / "a.safetensors", "F4", bytes(8)), "not read", "fp32 version"),
    "float6": (lambda folder: raw_safetensors(folder / "a.safetensors", "F6_E2M3", bytes(12)), "cannot be read", "fp32 version"),
    "unknown dtype": (lambda folder: raw_safetensors(folder / "a.safetensors", "I3", bytes(6)), "not known here", "fp32 version"),
    "complex": (lambda folder: saved(folder / "a.bin", {"unet.a": torch.zeros(2, dtype=torch.complex64)}), "complex64", "fp32 version"),
    "sparse": (lambda folder: saved(folder / "a.bin", {"unet.a": torch.eye(2).to_sparse()}), "are not read", "fp32 version"),
    "two models of accelerate": (
        lambda folder: folder_of(folder / "state", "model.safetensors", "model_1.safetensors"),
        "holds 2 models: model.safetensors, model_1.safetensors", "naming the file itself",
    ),
    "a model and another file": (
        lambda folder: folder_of(folder / "state", "pytorch_model.bin", "lora.safetensors"),
        "pytorch_model.bin, lora.safetensors", "naming the file itself",
    ),
    "shards without an index": (
        lambda folder: folder_of(folder / "state", "model-00001-of-00002.safetensors"), "without the index", "index.json",
    ),
    "files of other names": (
        lambda folder: folder_of(folder / "state", "a.safetensors", "b.safetensors"),
        "holds no checkpoint", "name one of these: a.safetensors, b.safetensors",
    ),
    "an empty folder": (lambda folder: folder_of(folder / "state"), "holds no checkpoint", "name another folder"),
    "a checkpoint of this trainer": (training_checkpoint, "training checkpoint of this project", "python jobs/train.py RECIPE --out OUT --export"),
    "a piece of it": (lambda folder: saved(folder / "a.bin", {"master/projector.a": torch.zeros(1)}), "one piece of a training checkpoint", "--export"),
    "a trainer's state": (lambda folder: saved(folder / "a.bin", {"state_dict": {"a": torch.zeros(1)}}), "trainer's state", "torch.save"),
    "pickle protocol 5": (
        lambda folder: saved(folder / "a.bin", {"unet.a": torch.zeros(1)}, pickle_protocol=5), "pickle protocol", "safetensors version",
    ),
    "a program": (
        lambda folder: program(folder / "a.pt"), "TorchScript archive, which is a program", "state_dict()",
    ),
    "an index of numbers": (
        lambda folder: index_of(folder, '{"weight_map": {"a": 1}}'), "names 1, which are not there", "copy the whole folder",
    ),
    "an index without end": (
        lambda folder: index_of(folder, '{"weight_map": ' + "[" * 99999), "is no shard index", "copy the whole folder",
    ),
    "a list": (lambda folder: saved(folder / "a.bin", [torch.zeros(1)]), "holds a list", "state_dict()"),
    "numbers": (lambda folder: saved(folder / "a.bin", {"a": 1}), "not tensors", "state_dict()"),
    "FaceID without Plus": (lambda folder: saved(folder / "a.bin", ADAPTER), "without Plus", "take ip-adapter-faceid-plusv2_sd15"),
    "nothing": (lambda folder: folder / "a.bin", "no such file", "What is read"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_what_cannot_be_read_is_one_message_with_what_would_help(tmp_path, capsys, case):
    make, what, remedy = BROKEN[case]
    made = str(make(tmp_path))
    with pytest.raises(UserError) as refusal:  # what jobs/generate.py and jobs/demo.py show, with exit code 2
        load_for_command(ModelOptions("sd15", made, base="nowhere"))
    assert main(["convert", made, str(tmp_path / "out.bin"), "--to", "authors"]) == 2
    assert main(["inspect", made]) == 2
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) == 2 and all(line.startswith("refused: ") for line in shown), shown
    for message in (str(refusal.value), *shown):
        assert what in message and remedy in message and made in message


def test_a_version_that_nobody_says_names_a_way_that_every_command_has(tmp_path):
    file = foreign.authors_bin(foreign.released(controlnet=False), tmp_path / "face.bin")
    with pytest.raises(
        UserError, match="python -m model.checkpoints convert .* --no-shortcut for v1 or --shortcut for v2"
    ):
        load_for_command(ModelOptions("sd15", str(file), base="nowhere"))
    assert read(file, shortcut=False).shortcut is False


def test_a_name_that_is_no_unicode_is_refused_in_words(tmp_path, capsys):
    file = foreign.authors_bin(foreign.released(), tmp_path / "model.bin")
    odd = file.rename(tmp_path / "caf\udce9.bin")
    assert main(["inspect", str(odd)]) == 2
    assert main(["convert", str(odd), str(tmp_path / "out.bin"), "--to", "authors"]) == 2
    file = odd.rename(file)
    assert main(["convert", str(file), str(odd), "--to", "authors"]) == 2
    assert capsys.readouterr().err.count("caf?.bin: its name is not UTF-8, which torch needs; rename it") == 3
