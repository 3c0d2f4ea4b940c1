"""Attr_c on tiny networks, the published script's ways, and heads that are trained on encodings of real faces."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from common.pinned_files.packages import Package
from common.storage import Storage
from evaluation.metrics.attributes import CELEBA, NAMES, Attributes, pixels_of
from evaluation.metrics.base import Pair, Sources, Unavailable
from evaluation.metrics.networks.resnet import AttributeNetwork
from evaluation.score import score
from evaluation.sets import open_method, open_references
from evaluation.table import column_of
from tests.evaluation.twins import attribute_twin
from tests.real_photos import photo  # noqa: F401  (a fixture)

FACE_HUNTERS = Package(
    "face-hunters",
    "0.6.7",
    "f2d24b2a48c666a416a8a3ae4b74ff43fb709ec050c8a2f73ac1668bfed5c15a",
    "MIT (package); encodings of CelebA's faces: non-commercial",
)
# of each file, what its name says
FILES = {
    "female_old_straight": {"Male": 0, "Young": 0},
    "female_young_straight": {"Male": 0, "Young": 1},
    "female_young_wavy": {"Male": 0, "Young": 1},
    "male_old_beard": {"Male": 1, "Young": 0, "No_Beard": 0},
    "male_old_nobeard": {"Male": 1, "Young": 0, "No_Beard": 1},
    "male_young_beard": {"Male": 1, "Young": 1, "No_Beard": 0},
    "male_young_nobeard": {"Male": 1, "Young": 1, "No_Beard": 1},
}
FLOORS = {"Male": 0.85, "Young": 0.64, "No_Beard": 0.67}  # guessing the more frequent: 0.57, 0.57, 0.5


def write_onnx(file, weight, names=None):
    """The mean of each channel times `weight`, (3, attributes)."""
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["pixels"], ["means"], axes=[2, 3], keepdims=0),
            helper.make_node("MatMul", ["means", "weight"], ["logits"]),
        ],
        "head",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, (1, 3, 256, 256))],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, (1, weight.shape[1]))],
        [numpy_helper.from_array(weight.astype(np.float32), "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    if names:
        helper.set_model_props(model, {NAMES: ",".join(names)})
    onnx.save(model, str(file))
    return Attributes(Sources(models={"attributes": str(file)}))


@pytest.fixture
def shades(tmp_path):
    """All 40 by how light a picture is."""
    return write_onnx(tmp_path / "shades.onnx", np.tile(np.linspace(-9, 9, 40), (3, 1)))


def of(*probabilities):
    return {"probabilities": list(probabilities)}


def test_the_whole_network_is_of_the_published_size():
    """Once held against torchvision 0.28's ResNet-50, random weights: the same to the last bit."""
    with torch.device("meta"):
        network = AttributeNetwork(40)
    unused = 2049 * 1000  # the backbone's own classes
    assert sum(item.numel() for item in network.parameters()) + unused == 25_638_992
    assert network.state_dict()["backbone.layer3.5.conv2.weight"].shape == (256, 256, 3, 3)
    assert len(CELEBA) == len(set(CELEBA)) == 40 and CELEBA[20] == "Male" and CELEBA[39] == "Young"


def test_probabilities_are_those_of_the_network_in_float64(tmp_path, photo):  # noqa: F811
    file = attribute_twin(tmp_path / "best_model.pth")
    metric, rgb = Attributes(Sources(models={"attributes": str(file)})), photo("cat").rgb
    network = AttributeNetwork(40, thinner=16)
    network.load_state_dict({k: v for k, v in torch.load(file, weights_only=True).items() if "backbone.fc" not in k})
    with torch.inference_mode():
        expected = torch.sigmoid(network.double().eval()(torch.from_numpy(pixels_of(rgb)).double()))[0]
    told = metric.features(rgb)["probabilities"]
    assert told == pytest.approx(expected.tolist(), abs=1e-5) and np.std(told) > 0.01 and metric.names == CELEBA


@pytest.mark.parametrize("shape", [(300, 200), (200, 301), (40, 40)])
def test_the_square_in_the_middle_comes_before_the_resize(shape):
    rgb = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    top, left = ((side - min(shape)) // 2 for side in shape)
    square = Image.fromarray(rgb).crop((left, top, left + min(shape), top + min(shape)))
    expected = np.asarray(square.resize((256, 256), Image.Resampling.BICUBIC)).transpose(2, 0, 1) / 127.5 - 1
    np.testing.assert_allclose(pixels_of(rgb)[0], expected, atol=1e-6)


def test_only_what_is_above_0_85_counts_and_agreement_is_with_the_reference(shades):
    reference, drawn = of(0.9, 0.6, 0.4, 0.1, 0.2), of(0.85, 0.3, 0.8500001, 0.2, 0.1)
    told = shades.scores(Pair(reference, drawn))
    assert told["count"] == 1, "strictly above"
    assert told["agreement"] == pytest.approx(3 / 5)
    assert told["balanced"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    copied = shades.scores(Pair(reference, reference))
    assert copied["agreement"] == copied["balanced"] == 1 and copied["count"] == 1
    assert shades.scores(Pair(of(0.1, 0.2), drawn | of(0.1, 0.9)))["balanced"] is None


def cells_of(metric, references, pictures, out):
    found = open_references(references)
    method = open_method("mine", pictures, found)
    (scored,) = score({metric.name: metric}, [method], Storage(out), Sources())
    columns = [column_of(figure, scored, [method]) for figure in metric.figures()]
    return {(column.figure.title, column.figure.protocol): column.cells["mine"] for column in columns}


@pytest.fixture
def light_and_dark(tmp_path):
    """Two references, and for each a picture: white and black."""
    folders = {name: tmp_path / name for name in ("references", "pictures")}
    for folder in folders.values():
        folder.mkdir()
        for name, shade in (("dark", 0), ("light", 255)):
            Image.new("RGB", (32, 48), (shade,) * 3).save(folder / f"{name}.jpg")
    return folders


def test_published_is_the_mean_of_jpg_only_and_0_without_one(shades, light_and_dark, tmp_path):
    references, pictures = light_and_dark.values()
    cells = cells_of(shades, references, pictures, tmp_path / "one")
    count = cells["Attr_c", "reconstructed"].estimate.value
    assert (
        count == cells["Attr_c", "sound"].estimate.value > 10 and cells["Attr agreement", "sound"].estimate.value == 1
    )
    Image.open(pictures / "light.jpg").rotate(5).save(pictures / "light.JPG")
    (pictures / "light.jpg").unlink()
    cells = cells_of(shades, references, pictures, tmp_path / "two")
    assert cells["Attr_c", "reconstructed"].left_out == 1 and cells["Attr_c", "sound"].left_out == 0
    for file in pictures.iterdir():
        file.rename(file.with_suffix(".jpeg"))
    cells = cells_of(shades, references, pictures, tmp_path / "three")
    assert cells["Attr_c", "reconstructed"].estimate.value == 0 < cells["Attr_c", "sound"].estimate.value


def test_published_ends_at_a_picture_that_is_not_rgb(shades, light_and_dark, tmp_path):
    references, pictures = light_and_dark.values()
    Image.new("L", (32, 48), 90).save(pictures / "dark.jpg")
    cells = cells_of(shades, references, pictures, tmp_path / "grey")
    assert "ends with an error at " in cells["Attr_c", "reconstructed"].why
    assert cells["Attr_c", "reconstructed"].why.endswith("its mode is L, and three channels are taken")
    assert cells["Attr_c", "sound"].estimate.n == 2
    (pictures / "dark.jpg").write_bytes(b"none")
    cells = cells_of(shades, references, pictures, tmp_path / "broken")
    assert cells["Attr_c", "reconstructed"].estimate is None and cells["Attr_c", "sound"].left_out == 1


def test_the_table_says_which_attributes_stand_behind_a_cell(tmp_path):
    metric = write_onnx(tmp_path / "two.onnx", np.ones((3, 2)), ["Male", "Young"])
    assert all("of 2 attributes (Male, Young), by two.onnx" in figure.says for figure in metric.figures())
    assert len(metric.features(np.full((9, 9, 3), 200, np.uint8))["probabilities"]) == 2


def test_a_file_that_is_not_here_or_is_another_says_what_to_fetch(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(Unavailable, match="best_model.pth is not on this machine.*--model-of attributes=FILE"):
        Attributes(Sources())
    with pytest.raises(Unavailable, match="gives .1, 7. for 40 attributes"):
        write_onnx(tmp_path / "seven.onnx", np.ones((3, 7)))
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(Unavailable, match="text.onnx: onnxruntime cannot open it"):
        Attributes(Sources(models={"attributes": str(tmp_path / "text.onnx")}))


@pytest.fixture(scope="module")
def encodings():
    """400 faces of each file to train on and 200 held out."""
    folder = FACE_HUNTERS.fetch() / "face_hunters"
    read = {name: np.load(folder / f"img_{name}.csv.npy", allow_pickle=False) for name in FILES}
    return {name: (rows[:400], rows[-200:]) for name, rows in read.items()}


def head_of(encodings, attribute):
    """A linear head by ridge regression, from encodings to a probability that falls on both sides of a half."""
    known = {name: told[attribute] for name, told in FILES.items() if attribute in told}
    rows = np.concatenate([encodings[name][0] for name in known])
    wanted = np.repeat([2.0 * value - 1 for value in known.values()], 400).astype(np.float32)
    middle, spread = rows.mean(axis=0), rows.std(axis=0) + 1e-3
    rows, level = (rows - middle) / spread, wanted.mean()
    weight = np.linalg.solve(rows.T @ rows + 3000 * np.eye(rows.shape[1], dtype=np.float32), rows.T @ (wanted - level))
    return lambda faces: 1 / (1 + np.exp(-4 * ((faces - middle) / spread @ weight + level)))


def test_heads_trained_on_real_faces_hold_on_others_and_agreement_tells_people_apart(encodings, tmp_path):
    """Male and Young of seven files, No_Beard of men's: what the files' names say; 37 attributes are not in them."""
    heads = {attribute: head_of(encodings, attribute) for attribute in FLOORS}
    for attribute, floor in FLOORS.items():
        held_out = [(encodings[name][1], told[attribute]) for name, told in FILES.items() if attribute in told]
        right = np.mean([((heads[attribute](faces) > 0.5) == value).mean() for faces, value in held_out])
        assert right > floor, (attribute, right)
    metric = write_onnx(tmp_path / "two.onnx", np.ones((3, 2)), ["Male", "Young"])
    seen = {
        name: [of(*row) for row in np.stack([heads[item](held_out) for item in metric.names], axis=1)]
        for name, (_, held_out) in encodings.items()
    }

    def agreement(reference, drawn):
        pairs = zip(seen[reference], seen[drawn][::-1], strict=True)
        return np.mean([metric.scores(Pair(*pair))["agreement"] for pair in pairs])

    alike = agreement("male_old_beard", "male_old_nobeard"), agreement("female_young_straight", "female_young_wavy")
    one_apart = agreement("male_old_beard", "male_young_beard"), agreement("male_young_beard", "female_young_wavy")
    both_apart = agreement("male_old_beard", "female_young_wavy")
    assert min(alike) > max(one_apart) > min(one_apart) > both_apart, (alike, one_apart, both_apart)
