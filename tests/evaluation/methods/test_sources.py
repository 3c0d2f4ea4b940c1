"""Where a method's files are found, and which of a folder's its pictures depend on."""

from __future__ import annotations

import pytest

from common.errors import UserError
from evaluation.methods.sources import MethodSources, Needed, Unavailable, files_read, folder_hash

ADAPTER = Needed("adapter", "MIT", "someone/adapter", "files/adapter.bin")
BASE = Needed("base", "MIT", "someone/base")


def write(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def test_a_named_place_first_then_the_folder_then_the_hubs_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    snapshot = tmp_path / "hub" / "models--someone--adapter" / "snapshots" / "abc"
    write(snapshot, "files/adapter.bin")
    write(tmp_path / "hub" / "models--someone--adapter", "refs/main").joinpath("refs/main").write_text("abc")
    found = MethodSources().find("made", [ADAPTER])["adapter"]
    assert found.path == snapshot / "files" / "adapter.bin"
    folder = write(tmp_path / "mine", "adapter.bin", "base/model_index.json")
    assert MethodSources(str(folder)).find("made", [ADAPTER, BASE])["adapter"].path == folder / "adapter.bin"
    named = MethodSources(str(folder), {"made.adapter": str(write(tmp_path / "named", "x.bin") / "x.bin")})
    assert named.find("made", [ADAPTER])["adapter"].path.name == "x.bin"
    assert MethodSources(str(folder), {"other.adapter": "/nowhere"}).find("made", [ADAPTER])


def test_all_that_is_missing_is_told_at_once(tmp_path):
    with pytest.raises(Unavailable) as told:
        MethodSources(str(tmp_path)).find("made", [ADAPTER, BASE])
    assert "`hf download someone/adapter files/adapter.bin`" in str(told.value) and "`hf download someone/base`" in str(
        told.value
    )
    assert str(told.value).startswith("not here: adapter, base. "), "the reason first"
    with pytest.raises(UserError, match="--part made.base=/nowhere: no such file or folder"):
        MethodSources(named={"made.base": "/nowhere"}).find("made", [BASE])


def test_of_a_pipelines_folder_what_stock_loaders_read(tmp_path):
    read = ("model_index.json", "unet/config.json", "unet/model.safetensors", "vae/model.bin", "tokenizer/merges.txt")
    write(tmp_path, *read)
    before = folder_hash(tmp_path)
    write(
        tmp_path,
        "whole.safetensors",
        "unet/model.bin",
        "unet/model.fp16.safetensors",
        "vae/model.fp16.bin",
        "README.md",
    )
    assert {file.relative_to(tmp_path).as_posix() for file in files_read(tmp_path)} == set(read)
    assert folder_hash(tmp_path) == before
    for name in read:
        (tmp_path / name).write_bytes(b"other")
        assert folder_hash(tmp_path) != before, name
        (tmp_path / name).write_bytes(name.encode())
    assert folder_hash(tmp_path) == before
    assert [file.name for file in files_read(write(tmp_path / "clip", "config.json", "model.safetensors"))] == [
        "config.json", "model.safetensors"
    ]  # fmt: skip
