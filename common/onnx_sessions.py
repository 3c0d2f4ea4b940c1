"""Opens ONNX models with onnxruntime, on the CPU or a GPU, on one thread.

One thread a session: the score stage runs one worker a core, and a reduction split over threads could change
the last bit of a score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from common.errors import UserError

if TYPE_CHECKING:
    import onnx
    import onnxruntime


class DeviceError(UserError, RuntimeError):
    """The device that was asked for cannot be used; the message says what to install or change."""


def can_use_gpus() -> bool:
    """Whether this onnxruntime was built with CUDA; the machine may still have no GPU."""
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def session(model: str | Path | bytes, device: str = "cpu") -> onnxruntime.InferenceSession:
    """An onnxruntime session of a file or of a serialised model; `device`: "cpu" or "gpu".

    Raises:
        DeviceError: "gpu" where this onnxruntime has no CUDA provider, or cannot start it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.enable_mem_pattern = False  # patterns are kept per input shape, and text detection sees hundreds
    options.log_severity_level = 3
    providers = ["CPUExecutionProvider"]
    if device == "gpu":
        if not can_use_gpus():
            raise DeviceError(
                "a GPU was asked for, but this onnxruntime has no CUDA provider (it has "
                f"{', '.join(onnxruntime.get_available_providers())}): install onnxruntime-gpu in place of "
                "onnxruntime, or set device to cpu"
            )
        providers.insert(0, "CUDAExecutionProvider")
    source = model if isinstance(model, bytes) else str(model)
    opened = onnxruntime.InferenceSession(source, options, providers=providers)
    if device == "gpu" and opened.get_providers()[0] != "CUDAExecutionProvider":
        raise DeviceError(
            "a GPU was asked for, but onnxruntime could not start CUDA here: check driver and CUDA libraries, or set "
            "device to cpu"
        )
    return opened


def as_batch(inputs: Sequence[np.ndarray]) -> np.ndarray:
    """The inputs of a network, one on the other; a single one is not copied, which would cost as much as making it."""
    return inputs[0][None] if len(inputs) == 1 else np.stack(inputs)


def with_free_dimensions(path: str | Path, inputs: Mapping[str, Sequence[int | str]]) -> bytes:
    """The model with other input dimensions (a name: any size), serialised; the file is not touched.

    An exporter that was given one example writes the batch of one into output shapes and into the constants
    of Reshape. Those ones become 0, which means "as in the input", or -1 where the constant has none yet. That
    is exact where the first dimension is the batch on both sides of every Reshape, as in the detectors here.
    """
    import onnx

    model = onnx.load(str(path))
    graph = model.graph
    parameters = {tensor.name for tensor in graph.initializer}
    for value in [value for value in graph.input if value.name in parameters]:
        graph.input.remove(value)  # a parameter that is also an input cannot be folded into its neighbour
    model.ir_version = max(model.ir_version, 4)  # older ones demand that double listing
    for value in graph.input:
        kind = value.type.tensor_type.elem_type
        value.type.CopyFrom(onnx.helper.make_tensor_type_proto(kind, inputs[value.name]))
    for value in graph.output:
        value.type.tensor_type.shape.Clear()
        value.type.tensor_type.ClearField("shape")
    graph.ClearField("value_info")
    _free_reshapes(graph)
    return model.SerializeToString()


def _free_reshapes(graph: onnx.GraphProto) -> None:
    from onnx import numpy_helper

    wanted = {node.input[1] for node in graph.node if node.op_type == "Reshape"}
    constants = [node for node in graph.node if node.op_type == "Constant" and node.output[0] in wanted]
    tensors = [node.attribute[0].t for node in constants]
    for tensor in (*tensors, *(tensor for tensor in graph.initializer if tensor.name in wanted)):
        shape = np.array(numpy_helper.to_array(tensor))
        if shape.ndim == 1 and len(shape) > 1 and shape[0] == 1:
            shape[0] = 0 if -1 in shape else -1
            tensor.CopyFrom(numpy_helper.from_array(shape, tensor.name))
