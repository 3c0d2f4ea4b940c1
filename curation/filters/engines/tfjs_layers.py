"""Keras layers models in TensorFlow.js's format (model.json and one file of weights) as ONNX, without TensorFlow.

The format: model.json has the layers in their order, as Keras describes them, and a manifest of the weights; a weight
lies in the other file as bytes q that stand for `q * scale + min`. Only what MobileNetV2 is made of is known here;
anything else is refused, since a network that is nearly right is the worst kind.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 17, 8
Config = Mapping[str, Any]


def read_weights(manifest: list[dict[str, Any]], data: bytes) -> dict[str, np.ndarray]:
    """The weights by name, dequantised to float32.

    Raises:
        ValueError: another type than bytes that stand for floats, or a file that is shorter or longer.
    """
    weights, at = {}, 0
    for entry in (entry for group in manifest for entry in group["weights"]):
        how = entry.get("quantization", {})
        if (entry["dtype"], how.get("dtype")) != ("float32", "uint8"):
            raise ValueError(f"{entry['name']}: {entry['dtype']} as {how.get('dtype')}: only float32 as uint8 is known")
        size = int(np.prod(entry["shape"]))
        stored = np.frombuffer(data, np.uint8, size, at).reshape(entry["shape"])
        weights[entry["name"]] = (stored * how["scale"] + how["min"]).astype(np.float32)
        at += size
    if at != len(data):
        raise ValueError(f"the manifest names {at:,} bytes of weights, the file has {len(data):,}")
    return weights


def as_onnx(model: Path, weights: Path) -> bytes:
    """The network as a serialised ONNX model: input float32 (batch, 3, h, w), output (batch, classes).

    Raises:
        ValueError: a layer, or a setting of one, that is not known here.
    """
    tree = json.loads(model.read_bytes())
    graph = _Graph(read_weights(tree["weightsManifest"], weights.read_bytes()))
    config = tree["modelTopology"]["model_config"]["config"]
    for layer in config["layers"]:
        graph.add(layer)
    ((output, _, _),) = config["output_layers"]
    return graph.serialised(output)


class _Graph:
    """The ONNX graph as it grows. Channels come first in it, and last in Keras."""

    def __init__(self, weights: Mapping[str, np.ndarray]):
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.parameters: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.layers: dict[str, Callable[[Config, list[str]], None]] = {
            "InputLayer": self._input,
            "ZeroPadding2D": self._zero_padding,
            "Conv2D": self._convolution,
            "DepthwiseConv2D": self._depthwise,
            "BatchNormalization": self._normalisation,
            "ReLU": self._relu,
            "Add": lambda config, inputs: self._node("Add", inputs, config["name"]),
            "AveragePooling2D": self._pooling,
            "Flatten": self._flatten,
            "Dense": self._dense,
            "Dropout": lambda config, inputs: self._node("Identity", inputs, config["name"]),
        }

    def add(self, layer: Mapping[str, Any]) -> None:
        kind, config = layer["class_name"], layer["config"]
        if kind not in self.layers:
            raise ValueError(f"{config['name']}: a layer of the unknown kind {kind}")
        if config.get("data_format", "channels_last") != "channels_last":
            raise ValueError(f"{config['name']}: {config['data_format']}")
        self.layers[kind](config, [entry[0] for node in layer["inbound_nodes"] for entry in node])

    def serialised(self, output: str) -> bytes:
        (result,) = [helper.make_tensor_value_info(output, TensorProto.FLOAT, ("batch", None))]
        graph = helper.make_graph(self.nodes, "layers", self.inputs, [result], self.parameters)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = IR_VERSION
        onnx.checker.check_model(model)
        return model.SerializeToString()

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def _parameter(self, name: str, values: np.ndarray) -> str:
        self.parameters.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    # -- layers --------------------------------------------------------------------------------------------------

    def _input(self, config: Config, inputs: list[str]) -> None:
        _, height, width, channels = config["batch_input_shape"]
        shape = ("batch", channels, height, width)
        self.inputs.append(helper.make_tensor_value_info(config["name"], TensorProto.FLOAT, shape))

    def _zero_padding(self, config: Config, inputs: list[str]) -> None:
        (top, bottom), (left, right) = config["padding"]
        pads = np.array([0, 0, top, left, 0, 0, bottom, right], np.int64)
        self._node("Pad", [*inputs, self._parameter(f"{config['name']}/pads", pads)], config["name"])

    def _convolution(self, config: Config, inputs: list[str]) -> None:
        kernel = self.weights[f"{config['name']}/kernel"].transpose(3, 2, 0, 1)  # from h, w, in, out
        self._convolve(config, inputs, kernel, 1)

    def _depthwise(self, config: Config, inputs: list[str]) -> None:
        if config["depth_multiplier"] != 1:
            raise ValueError(f"{config['name']}: depth multiplier {config['depth_multiplier']}")
        kernel = self.weights[f"{config['name']}/depthwise_kernel"].transpose(2, 3, 0, 1)  # from h, w, channel, 1
        self._convolve(config, inputs, kernel, kernel.shape[0])

    def _convolve(self, config: Config, inputs: list[str], kernel: np.ndarray, groups: int) -> None:
        if config["activation"] != "linear" or config["use_bias"] or list(config["dilation_rate"]) != [1, 1]:
            raise ValueError(f"{config['name']}: a convolution with an activation, a bias or a dilation")
        self._node(
            "Conv",
            [*inputs, self._parameter(f"{config['name']}/kernel", kernel)],
            config["name"],
            strides=config["strides"],
            auto_pad={"same": "SAME_UPPER", "valid": "VALID"}[config["padding"]],
            group=groups,
        )

    def _normalisation(self, config: Config, inputs: list[str]) -> None:
        name = config["name"]
        values = ("gamma", "beta", "moving_mean", "moving_variance")
        parameters = [self._parameter(f"{name}/{value}", self.weights[f"{name}/{value}"]) for value in values]
        self._node("BatchNormalization", [*inputs, *parameters], name, epsilon=config["epsilon"])

    def _relu(self, config: Config, inputs: list[str]) -> None:
        if config["negative_slope"] or config["threshold"]:
            raise ValueError(f"{config['name']}: a leaky or shifted ReLU")
        limits = [self._parameter(f"{config['name']}/{key}", np.float32(value)) for key, value in
                  (("least", 0.0), ("most", config["max_value"]))]  # fmt: skip
        self._node("Clip", [*inputs, *limits], config["name"])

    def _pooling(self, config: Config, inputs: list[str]) -> None:
        if config["padding"] != "valid":
            raise ValueError(f"{config['name']}: pooling with padding {config['padding']}")
        shape = {"kernel_shape": config["pool_size"], "strides": config["strides"]}
        self._node("AveragePool", inputs, config["name"], **shape)

    def _flatten(self, config: Config, inputs: list[str]) -> None:
        last = self._node("Transpose", inputs, f"{config['name']}/channels_last", perm=[0, 2, 3, 1])
        self._node("Flatten", [last], config["name"], axis=1)

    def _dense(self, config: Config, inputs: list[str]) -> None:
        name = config["name"]
        kernel = self._parameter(f"{name}/kernel", self.weights[f"{name}/kernel"])
        bias = self._parameter(f"{name}/bias", self.weights[f"{name}/bias"])
        kind = {"relu": "Relu", "softmax": "Softmax"}[config["activation"]]
        self._node(kind, [self._node("Gemm", [*inputs, kernel, bias], f"{name}/linear")], name)
