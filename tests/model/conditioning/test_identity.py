"""ArcFace on a network of its signature that is made here; what every encoder promises. dlib: tests/curation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from common.hashing import sha256_of_bytes, sha256_of_file
from common.onnx_sessions import DeviceError
from common.pinned_files.weight_table import WEIGHTS
from common.pinned_files.weights import ENVIRONMENT, WeightError
from model.conditioning.alignment import align, template
from model.conditioning.identity import ArcFace, Dlib, open_encoder

WEIGHT = np.random.default_rng(0).normal(size=(3, 512)).astype(np.float32)
LANDMARKS = template(112) * 2 + np.float32([30, 20])
BOX = np.float32([60, 60, 220, 240])


def write_network(path: Path, shape: tuple[int | str, ...] = (1, 3, 112, 112), weight: np.ndarray = WEIGHT) -> Path:
    """The mean of each plane times `weight`, and a bias: what comes out tells the planes apart, and their range."""
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["input.1"], ["means"], axes=[2, 3], keepdims=0),
            helper.make_node("Gemm", ["means", "weight", "bias"], ["683"]),
        ],
        "recogniser",
        [helper.make_tensor_value_info("input.1", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("683", TensorProto.FLOAT, (shape[0], weight.shape[1]))],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(weight[0] / 2, "bias")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(path))
    return path


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_network(tmp_path_factory.mktemp("network") / "w600k_r50.onnx")


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """Red, green and blue differ everywhere."""
    rgb = np.random.default_rng(1).integers(0, 120, (300, 320, 3), np.uint8)
    return rgb + np.uint8([120, 60, 0])


def test_a_vector_is_float32_of_length_one_and_always_the_same(network, photo):
    encoder = ArcFace(network)
    vector = encoder.embed(photo, BOX, LANDMARKS)
    assert vector.shape == (encoder.dimension,) == (512,) and vector.dtype == np.float32
    assert abs(float(np.linalg.norm(vector)) - 1) < 1e-5
    assert (ArcFace(network).embed(photo, BOX, LANDMARKS) == vector).all()


def test_bgr_means_that_the_network_sees_red_first(network, photo):
    """insightface is called with BGR and swaps it; called with RGB, as the authors did in places, it sees blue first."""
    means = (align(photo, LANDMARKS, 112).astype(np.float32).mean(axis=(0, 1)) - 127.5) / 127.5
    for order, planes in (("bgr", means), ("rgb", means[::-1])):
        expected = planes @ WEIGHT + WEIGHT[0] / 2
        vector = ArcFace(network, order).embed(photo, BOX, LANDMARKS)
        assert np.abs(vector - expected / np.linalg.norm(expected)).max() < 1e-5


def test_the_wrong_channel_order_gives_another_person(network, photo):
    vectors = {order: ArcFace(network, order).embed(photo, BOX, LANDMARKS) for order in ("bgr", "rgb")}
    assert float(vectors["bgr"] @ vectors["rgb"]) < 0.9
    swapped = ArcFace(network, "rgb").embed(np.ascontiguousarray(photo[..., ::-1]), BOX, LANDMARKS)
    assert np.abs(swapped - vectors["bgr"]).max() < 1e-6


def test_points_in_one_place_have_no_identity(network, photo):
    assert ArcFace(network).embed(photo, BOX, np.full((5, 2), 9.0)) is None


def test_a_network_with_free_dimensions_is_taken(tmp_path, photo):
    free = write_network(tmp_path / "free.onnx", ("batch", 3, "height", "width"))
    assert ArcFace(free).embed(photo, BOX, LANDMARKS) is not None


@pytest.mark.parametrize(
    ("shape", "outputs"), [((1, 3, 160, 160), 512), ((1, 1, 112, 112), 512), ((1, 3, 112, 112), 128)]
)
def test_another_network_is_refused_by_name(tmp_path, photo, shape, outputs):
    weight = np.ones((shape[1], outputs), np.float32)
    other = write_network(tmp_path / "other.onnx", shape, weight)
    with pytest.raises(ValueError, match=r"other\.onnx maps .*no ArcFace network.*w600k_r50\.onnx"):
        ArcFace(other).embed(photo, BOX, LANDMARKS)


def test_the_fingerprint_changes_with_the_file_the_channel_order_and_the_alignment(network, tmp_path, monkeypatch):
    encoders = [ArcFace(network), ArcFace(network, "rgb"), ArcFace(write_network(tmp_path / "a.onnx", weight=-WEIGHT))]
    fingerprints = {encoder.fingerprint for encoder in encoders}
    monkeypatch.setattr(ArcFace, "ALIGNMENT", "another")
    fingerprints.add(ArcFace(network).fingerprint)
    assert len(fingerprints) == 4 and all(name.startswith("arcface-") for name in fingerprints)


def test_the_fingerprint_does_not_change_with_the_place(network, tmp_path):
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(network.read_bytes())
    assert ArcFace(copy).fingerprint == ArcFace(network).fingerprint


def test_a_file_that_is_written_again_has_another_hash(tmp_path):
    encoder = ArcFace(write_network(tmp_path / "a.onnx"))
    before = encoder.fingerprint
    size = (tmp_path / "a.onnx").stat().st_size
    write_network(tmp_path / "a.onnx", weight=-WEIGHT)
    assert (tmp_path / "a.onnx").stat().st_size == size
    assert encoder.fingerprint != before


def test_describe_has_what_a_vector_depends_on(network):
    assert ArcFace(network).describe() == {
        "encoder": "arcface",
        "dimension": 512,
        "channel_order": "bgr",
        "weights": {"network": sha256_of_file(network)},
        "alignment": "least-squares-2",
    }


def test_what_is_wrong_is_said_before_any_face(network, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.onnx: no such model file; put it there"):
        ArcFace(tmp_path / "none.onnx")
    with pytest.raises(FileNotFoundError, match=r"none\.dat: no such model file"):
        Dlib(network, tmp_path / "none.dat")
    with pytest.raises(ValueError, match="channel_order is 'gbr'; choose one of bgr, rgb"):
        ArcFace(network, "gbr")


def test_a_gpu_that_onnxruntime_cannot_use_is_an_error_not_a_slow_cpu(network, photo):
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(DeviceError, match="install onnxruntime-gpu"):
        ArcFace(network, device="gpu").embed(photo, BOX, LANDMARKS)


def test_arcface_is_brought_by_the_user(tmp_path, monkeypatch):
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    monkeypatch.setenv("FACEMAKEUP_CACHE", str(tmp_path / "cache"))
    with pytest.raises(WeightError, match=r"(?s)w600k_r50\.onnx .*remedy: put w600k_r50\.onnx into"):
        open_encoder("arcface", folder=str(tmp_path))
    (tmp_path / "w600k_r50.onnx").write_bytes(b"a network")
    pinned = replace(WEIGHTS["arcface-w600k-r50"], sha256=sha256_of_bytes(b"a network"))
    monkeypatch.setitem(WEIGHTS, pinned.name, pinned)
    made = open_encoder("arcface", "rgb", folder=str(tmp_path))
    assert made.channel_order == "rgb"
    assert made.describe()["weights"]["network"] == sha256_of_bytes(b"a network")
