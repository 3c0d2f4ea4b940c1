"""Counts where a step would wait for a GPU, on a machine without one: a tensor is on the host or "on the device".

Here both are on the CPU, so what a tensor is follows from how it was made. On the host: made without a device (as the
loader does), made for "cpu" by that name, or computed of such alone. On the device: everything else. A wait is what
needs a value of the device on the host, or a shape that depends on one, and a copy to the device that is not from pinned
memory or that does not say `non_blocking`. A dispatch mode would see neither `.tolist()` nor `.to(device)`; this is a
function mode, which sees every call from Python. What runs in C++ alone (autograd, collectives) asks for no value.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

ROOT = Path(__file__).parents[2]
VALUES = {"item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__", "__index__", "__array__", "is_nonzero"}
SHAPES = {"nonzero", "masked_select", "unique", "equal", "allclose", "bincount", "argwhere"}
MADE_OF_NUMBERS = {"tensor", "as_tensor", "new_tensor"}  # a copy, unlike zeros or full


class DeviceName(str):
    """ "cpu", said of the device: DeepSpeed asks its accelerator for a name, which on a CPU is that of the host."""


class Waits(TorchFunctionMode):
    """While it is entered, waits are counted in `now`, as "kind file:line"; `end_of_step` begins another list."""

    def __init__(self):
        super().__init__()
        self.now: list[str] = []
        self.steps: list[list[str]] = []

    def __enter__(self):
        from deepspeed.accelerator import get_accelerator

        accelerator = get_accelerator()
        accelerator.current_device_name = accelerator.device_name = lambda *_: DeviceName("cpu")
        return super().__enter__()

    def end_of_step(self) -> None:
        self.steps.append(self.now)
        self.now = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        given = [value for value in tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor)]
        if kind := _wait(name, args, kwargs, given):
            self.now.append(f"{kind} {_caller()}")
        if name == "is_pinned":
            return getattr(args[0], "_pinned", False)
        if name == "pin_memory":  # there is none without a GPU
            return _marked(args[0].detach(), host=True, pinned=True)
        result = func(*args, **kwargs)
        if name in ("to", "cpu", "cuda"):
            place = _place(args[1:], kwargs) if name == "to" else "cpu" if name == "cpu" else "device"
            host = _is_host(args[0]) if place is None else place == "cpu"
            return _marked(result.detach() if result is args[0] and place is not None else result, host)
        place = _place((), kwargs)
        host = place == "cpu" or (place is None and all(map(_is_host, given)))
        return tree_map(lambda value: _marked(value, host) if isinstance(value, torch.Tensor) else value, result)


def _wait(name: str, args: tuple, kwargs: dict, given: list[torch.Tensor]) -> str | None:
    on_device = [value for value in given if not _is_host(value)]
    if name in MADE_OF_NUMBERS and (_place((), kwargs) == "device" or (name == "new_tensor" and on_device)):
        return f"copy of numbers by {name}"
    if name in ("to", "copy_", "cuda"):
        source = args[1] if name == "copy_" else args[0]
        if not isinstance(source, torch.Tensor):
            return None
        place = "device" if name == "cuda" else _place(args[1:], kwargs) if name == "to" else None
        goes = place == "device" if name != "copy_" else not _is_host(args[0])
        if _is_host(source) and goes and not (kwargs.get("non_blocking") and getattr(source, "_pinned", False)):
            return f"copy by {name}"
        return f"value by {name}" if not _is_host(source) and place == "cpu" else None
    if name in VALUES | SHAPES or (name == "where" and len(args) == 1):
        return f"value by {name}" if on_device else None
    if name in ("__getitem__", "__setitem__") and not _is_host(args[0]):
        indices = [value for value in tree_leaves(args[1]) if isinstance(value, torch.Tensor)]
        if any(value.dtype in (torch.bool, torch.uint8) for value in indices):
            return f"mask in {name}"
        if any(_is_host(value) for value in indices) or any(isinstance(leaf, list) for leaf in _parts(args[1])):
            return f"copy of indices in {name}"
        if name == "__setitem__" and isinstance(args[2], torch.Tensor) and _is_host(args[2]):
            return "copy by __setitem__"
    return None


def _parts(index) -> tuple:
    return index if isinstance(index, tuple) else (index,)


def _place(args: tuple, kwargs: dict) -> str | None:
    """The device that a call names: "cpu" only by that name, since here the device is called cpu as well."""
    device = kwargs.get("device", next((value for value in args if isinstance(value, str | torch.device)), None))
    if device is None:
        other = next((value for value in args if isinstance(value, torch.Tensor)), None)
        return None if other is None else "cpu" if _is_host(other) else "device"
    return "cpu" if type(device) is str and device == "cpu" else "device"


def _is_host(value: torch.Tensor) -> bool:
    return getattr(value, "_on_host", False)


def _marked(value: torch.Tensor, host: bool, pinned: bool = False) -> torch.Tensor:
    if isinstance(value, torch.nn.Parameter):
        return value
    value._on_host, value._pinned = host, pinned
    return value


def _caller() -> str:
    """The nearest frame that is ours, and the nearest outside torch where that is another's."""
    frame, first = sys._getframe(2), None
    while frame:
        file = Path(frame.f_code.co_filename)
        first = first or (None if "torch/" in str(file) or file == Path(__file__) else f"{file.name}:{frame.f_lineno}")
        if file.is_relative_to(ROOT) and ".venv" not in file.parts and file != Path(__file__):
            ours = f"{file.relative_to(ROOT)}:{frame.f_lineno}"
            return ours if ours.endswith(str(first)) else f"{ours} ({first})"
        frame = frame.f_back
    return str(first)
