"""The command line: what a file is, lacks, and becomes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from model.checkpoints import __main__ as command
from model.checkpoints.__main__ import main
from model.checkpoints.convert import convert
from model.checkpoints.inspection import inspect_checkpoint, sha256_of_path
from model.checkpoints.writing import write
from tests.model.checkpoints import foreign


@pytest.fixture
def released():
    return foreign.released()


def test_inspect_says_what_it_is(released, tmp_path, capsys):
    file = foreign.authors_bin(released, tmp_path / "model.bin")
    assert main(["inspect", str(file), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report == inspect_checkpoint(file)
    assert (report["layout"], report["shortcut"], report["rank"], report["tokens"]) == ("authors", True, 8, 4)
    assert (report["identity_dim"], report["clip_dim"], report["cross_attention_dim"]) == (128, 64, 128)
    adapter = report["parts"]["ip_adapter"]
    assert adapter["dtypes"] == {"bfloat16": 72} and adapter["bytes"] == 2 * adapter["parameters"]
    assert report["lacks"] == [] and report["non_finite"] == {} and len(report["sha256"]) == 64
    assert main(["inspect", str(file)]) == 0
    printed = capsys.readouterr().out
    assert "complete and consistent" in printed and report["sha256"] in printed


def test_inspect_says_what_is_missing_and_what_is_not_finite(released, tmp_path, capsys):
    del released.ip_adapter["5.to_k_ip.weight"]
    released.controlnet["conv_in.bias"][0] = float("inf")
    assert main(["inspect", str(foreign.authors_bin(released, tmp_path / "model.bin"))]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "lacks 1 of 72 keys: 5.to_k_ip.weight" in printed
    assert "1 numbers of controlnet.conv_in.bias" in printed
    assert main(["inspect", str(foreign.authors_bin(foreign.released(controlnet=False), tmp_path / "x.bin"))]) == 1
    assert "shortcut: unknown" in capsys.readouterr().out


def test_what_a_file_says_of_itself_is_printed_as_text(released, tmp_path, capsys):
    released.metadata |= {"base": "[/red] [bold]x", "note": "\x1b[2Jgone"}
    write(released, tmp_path / "a.safetensors", "facemakeup")
    assert main(["inspect", str(tmp_path / "a.safetensors")]) == 0
    printed = capsys.readouterr().out
    assert "[/red] [bold]x" in printed and "?[2Jgone" in printed and "\x1b" not in printed


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


@pytest.mark.parametrize("layout", ["authors", "facemakeup", "ip-adapter", "diffusers"])
def test_what_is_converted_has_the_umasks_mode_and_stdout_is_ours_alone(
    released, tmp_path, capsys, monkeypatch, layout
):
    def noisy(*given, **options):
        print("a library's warning")
        return convert(*given, **options)

    monkeypatch.setattr(command, "convert", noisy)
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text(json.dumps(foreign.TINY_UNET))
    source = foreign.authors_bin(released, tmp_path / "model.bin")
    target = tmp_path / {"authors": "out.bin", "diffusers": "out"}.get(layout, "out.safetensors")
    before = os.umask(0o027)
    try:
        assert main(["convert", str(source), str(target), "--to", layout, "--base", str(tmp_path)]) == 0
    finally:
        os.umask(before)
    written = [target] if target.is_file() else [file for file in target.rglob("*") if file.is_file()]
    assert written and {file.stat().st_mode & 0o777 for file in written} == {0o640}
    printed = capsys.readouterr()
    first, *more = printed.out.splitlines()
    assert first.startswith(f"{target}: {layout}, from authors, sha256 ") and all(line[:2] == "  " for line in more)
    assert more[-1].startswith("  next: ") and "a library's warning" in printed.err


def test_a_base_folder_without_its_parts_fails_in_words(released, tmp_path, capsys):
    source = foreign.authors_bin(released, tmp_path / "model.bin")
    (tmp_path / "base" / "unet").mkdir(parents=True)
    (tmp_path / "base" / "unet" / "config.json").write_text(json.dumps(foreign.TINY_UNET))
    asked = ["convert", str(source), str(tmp_path / "out"), "--to", "pipeline", "--base", str(tmp_path / "base")]
    assert main(asked) == 2 and "image_encoder" in capsys.readouterr().err
    asked += ["--image-encoder", str(tmp_path / "nowhere")]
    assert main(asked) == 2 and capsys.readouterr().err.startswith("failed: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "model.bin"]


def test_force_replaces_what_was_exported_and_nothing_else(released, tmp_path, capsys):
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text(json.dumps(foreign.TINY_UNET))
    source, home = foreign.authors_bin(released, tmp_path / "model.bin"), tmp_path / "home"
    home.mkdir()
    (home / "precious.txt").write_text("mine")
    asked = ["--to", "diffusers", "--force", "--base", str(tmp_path)]
    assert main(["convert", str(source), str(home), *asked]) == 2
    assert "not an exported folder" in capsys.readouterr().err and (home / "precious.txt").read_text() == "mine"
    for _ in range(2):
        assert main(["convert", str(source), str(tmp_path / "out"), *asked]) == 0
    inside = tmp_path / "out" / "ip-adapter-facemakeup.safetensors"
    assert main(["convert", str(inside), str(tmp_path / "out"), *asked]) == 2
    assert "would be replaced" in capsys.readouterr().err and inside.is_file()


@pytest.mark.parametrize("config", ["{}", "[]", '{"cross_attention_dim": 8}', "no json"])
def test_a_base_that_is_no_unet_is_refused_in_words(released, tmp_path, capsys, config):
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text(config)
    source = foreign.authors_bin(released, tmp_path / "model.bin")
    assert main(["convert", str(source), str(tmp_path / "out"), "--to", "diffusers", "--base", str(tmp_path)]) == 2
    assert "refused: --base" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["conditions", "controlnet_config"])
@pytest.mark.parametrize("text", ["no json", "[1]"])
def test_metadata_that_cannot_be_read_is_refused_in_words(released, tmp_path, capsys, what, text):
    released.metadata |= {"controlnet_config": json.dumps(foreign.TINY_UNET), what: text}
    write(released, tmp_path / "a.safetensors", "facemakeup")
    assert main(["convert", str(tmp_path / "a.safetensors"), str(tmp_path / "out"), "--to", "diffusers"]) == 2
    assert f"refused: metadata `{what}`" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_the_hash_that_is_printed_is_that_of_what_was_written(released, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    source = foreign.authors_bin(released, tmp_path / "model.bin")
    assert main(["convert", str(source), "~/out.bin", "--to", "authors"]) == 0
    assert sha256_of_path(tmp_path / "out.bin") in capsys.readouterr().out


def test_help_does_not_wait_for_torch():
    code = "import sys, model.checkpoints.__main__ as c\ntry: c.main(['--help'])\nfinally: assert 'torch' not in sys.modules, 'torch'"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "pipeline    a folder for DiffusionPipeline" in done.stdout, done.stderr
