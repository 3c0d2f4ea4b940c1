from __future__ import annotations

import importlib
import subprocess
import sys

import numpy as np
import pytest
import torch

from common.hashing import sha256_of_file
from curation.filters.engines import export_yolov5face
from curation.filters.engines.export_yolov5face import main
from model.conditioning.detectors.yolov5face import YoloFace


def trusted(checkpoint) -> list[str]:
    return ["--sha256", sha256_of_file(checkpoint)]


def exported(project, out, *more: str) -> int:
    """The exit code of the command on the checkout's own checkpoint."""
    checkpoint = project / "face.pt"
    return main([str(checkpoint), str(out), "--repo", str(project), *more, *trusted(checkpoint)])


# A project with yolov5-face's outside: the hub entry, a pickled module of its own, a last layer with `export_cat`.
HUBCONF = """
from standin.network import Network

def custom(path_or_model):
    made = Network()
    made.load_state_dict(path_or_model["model"].float().state_dict())
    return made
"""
NETWORK = """
import torch

class Detect(torch.nn.Module):
    export_cat = False

    def __init__(self):
        super().__init__()
        self.bias = torch.nn.Parameter(torch.rand(16))

    def forward(self, x):
        cells = torch.nn.functional.avg_pool2d(x, 32).mean(1).flatten(1)
        decoded = cells[:, :, None] * 0.1 + self.bias
        return decoded if self.export_cat else (decoded, [x])

class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.model = torch.nn.ModuleList([torch.nn.Identity(), Detect()])

    def forward(self, x):
        for layer in self.model:
            x = layer(x)
        return x
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The project's checkout and a checkpoint."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "standin").mkdir()
    (folder / "hubconf.py").write_text(HUBCONF)
    (folder / "standin" / "network.py").write_text(NETWORK)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        network = importlib.import_module("standin.network")
        torch.manual_seed(0)
        torch.save({"model": network.Network().half()}, folder / "face.pt")
    forget_the_project()
    return folder


def forget_the_project() -> None:
    for name in [name for name in sys.modules if name.startswith("standin")]:
        del sys.modules[name]


@pytest.fixture
def project(made):
    yield made
    forget_the_project()


def test_exports_one_output_that_the_filter_reads(project, tmp_path, capsys):
    out = tmp_path / "face.onnx"
    assert exported(project, out, "--here", "--side", "64") == 0
    assert f"faces: {{file: {out}}}" in capsys.readouterr().out
    model = YoloFace(out, 64, "cpu")
    assert [value.name for value in model.session.get_outputs()] == ["output"]
    (found,) = model.session.run(None, {"data": np.zeros((1, 3, 64, 64), np.float32)})
    assert found.shape == (1, 4, 16)
    assert all(len(part) == len(scores) for boxes, scores, points in model([np.zeros((9, 9, 3), np.uint8)], 0.0)
               for part in (boxes, points))  # fmt: skip
    assert str(project) not in sys.path


def test_another_pickle_is_refused(project, tmp_path, capsys):
    torch.save({"weights": torch.zeros(3)}, tmp_path / "other.pt")
    other = tmp_path / "other.pt"
    assert main([str(other), str(tmp_path / "o.onnx"), "--repo", str(project), "--here", *trusted(other)]) == 1
    assert "not a yolov5-face checkpoint" in capsys.readouterr().err


def test_an_export_with_other_numbers_is_not_kept(project, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(export_yolov5face, "TOLERANCE", -1.0)
    out = tmp_path / "face.onnx"
    assert exported(project, out, "--here", "--side", "64") == 1
    assert "differ from the checkpoint's" in capsys.readouterr().err and not out.exists()


@pytest.mark.parametrize(
    ("extra", "said"),
    [(["--repo", "."], "no hubconf.py"), (["--side", "100"], "multiple of 32"), ([], "no such file")],
)
def test_arguments_that_cannot_be_right(tmp_path, capsys, monkeypatch, extra, said):
    monkeypatch.chdir(tmp_path)
    if extra:
        (tmp_path / "face.pt").write_bytes(b"")
        extra = [*extra, *trusted(tmp_path / "face.pt")]
    with pytest.raises(SystemExit):
        main(["face.pt", "face.onnx", *extra])
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("extra", [[], ["--sha256", "0" * 64]], ids=["not known", "another hash"])
def test_a_pickle_that_nobody_vouches_for_is_not_loaded(project, tmp_path, capsys, monkeypatch, extra):
    monkeypatch.setattr(torch, "load", None)
    with pytest.raises(SystemExit):
        main([str(project / "face.pt"), str(tmp_path / "o.onnx"), "--repo", str(project), "--here", *extra])
    assert "Loading it executes what is in it" in capsys.readouterr().err


def test_runs_itself_in_its_own_environment(project, tmp_path, monkeypatch):
    calls = []

    def run(command, check):
        calls.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    assert exported(project, "o.onnx", "--env", str(tmp_path / "env")) == 0
    python = str(tmp_path / "env" / "bin" / "python")
    assert calls[0][1:3] == ["-m", "venv"] and calls[1][:4] == [python, "-m", "pip", "install"]
    assert calls[2][:2] == [python, "-P"] and "--here" in calls[2] and ["--repo", str(project)] == calls[2][6:8]
