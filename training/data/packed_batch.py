"""A micro-batch on its way from a loader worker to the process that trains: one piece of shared memory.

torch hands over each tensor by a descriptor of its own, for which the receiver asks a thread of the worker, which is busy
decoding: measured at 10 to 30 ms a micro-batch. And it copies each tensor into shared memory after it was made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch.utils.data import get_worker_info

T = TypeVar("T")

ALIGNED = 64  # bytes

Place = tuple[int, torch.dtype, tuple[int, ...]]


def stacked(rows: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Rows with the same names and shapes -> (B, ...) of each name; in a loader worker as `reduced` wants them."""
    if get_worker_info() is None:
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    places, total = {}, 0
    for name, value in rows[0].items():
        places[name] = (total, value.dtype, (len(rows), *value.shape))
        total += math.ceil(len(rows) * value.numel() * value.element_size() / ALIGNED) * ALIGNED
    found = _views(torch.empty(total, dtype=torch.uint8).share_memory_(), places)
    for name, whole in found.items():
        torch.stack([row[name] for row in rows], out=whole)
    return found


def received(made: Iterator[T]) -> Iterator[T]:
    """The same, each received while the one before is used: even one descriptor is a matter of milliseconds.

    So is giving back the memory of one: 9 ms for 53 MB. It is done then, too, so the last two are kept alive.
    """

    def following(spent: list[T]) -> T | None:
        spent.clear()
        return next(made, None)

    with ThreadPoolExecutor(1, thread_name_prefix="received") as thread:
        before: list[T] = []
        coming = thread.submit(following, [])
        while (one := coming.result()) is not None:
            coming = thread.submit(following, before)
            before = [one]
            yield one


def reduced(kind: Callable[..., Any], fields: dict[str, Any]) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """What an object's `__reduce__` returns, so that tensors that lie in one piece are pickled as one."""
    tensors = {name: value for name, value in fields.items() if isinstance(value, torch.Tensor)}
    if len({value.untyped_storage().data_ptr() for value in tensors.values()}) != 1:
        return _rebuilt, (kind, fields, None, {})
    rest = {name: value for name, value in fields.items() if name not in tensors}
    places = {
        name: (value.storage_offset() * value.element_size(), value.dtype, tuple(value.shape))
        for name, value in tensors.items()
    }
    memory = torch.empty(0, dtype=torch.uint8).set_(next(iter(tensors.values())).untyped_storage())
    return _rebuilt, (kind, rest, memory, places)


def _rebuilt(
    kind: Callable[..., Any], fields: dict[str, Any], memory: torch.Tensor | None, places: dict[str, Place]
) -> Any:
    return kind(**fields, **(_views(memory, places) if memory is not None else {}))


def _views(memory: torch.Tensor, places: dict[str, Place]) -> dict[str, torch.Tensor]:
    """Tensors at byte offsets of `memory`, uint8 (bytes,)."""
    found = {}
    for name, (offset, dtype, shape) in places.items():
        size = math.prod(shape) * dtype.itemsize
        found[name] = memory[offset : offset + size].view(dtype).view(shape)
    return found
