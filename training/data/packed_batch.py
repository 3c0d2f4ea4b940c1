"""Sends a micro-batch from a loader worker to the training process as one piece of shared memory.

torch alone sends each tensor by a file descriptor of its own, which the receiver has to ask a thread of the worker for
while that worker is busy decoding: measured at 10 to 30 ms a micro-batch. It also copies each tensor into shared memory
after it was computed. Here the rows are stacked in shared memory, and the batch is pickled as the one tensor that holds it.
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


def stack_rows(rows: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Rows with the same names and shapes -> (B, ...) of each name; in a loader worker all in one piece of shared memory."""
    if get_worker_info() is None:
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    places, total = {}, 0
    for name, value in rows[0].items():
        places[name] = (total, value.dtype, (len(rows), *value.shape))
        total += math.ceil(len(rows) * value.numel() * value.element_size() / ALIGNED) * ALIGNED
    stacks = _views(torch.empty(total, dtype=torch.uint8).share_memory_(), places)
    for name, stack in stacks.items():
        torch.stack([row[name] for row in rows], out=stack)
    return stacks


def receive_ahead(batches: Iterator[T]) -> Iterator[T]:
    """Yields `batches`, each received by a thread while the one before is used: even one descriptor takes milliseconds.

    So does freeing a batch, 9 ms for 53 MB: the thread does that as well, so the last two batches are kept alive.
    """

    def receive(spent: list[T]) -> T | None:
        spent.clear()
        return next(batches, None)

    with ThreadPoolExecutor(1, thread_name_prefix="receive-ahead") as thread:
        spent: list[T] = []
        pending = thread.submit(receive, [])
        while (batch := pending.result()) is not None:
            pending = thread.submit(receive, spent)
            spent = [batch]
            yield batch


def reduce_as_one_tensor(cls: Callable[..., Any], fields: dict[str, Any]) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """What the `__reduce__` of `cls` returns, so that tensors that lie in one storage are pickled as one tensor."""
    tensors = {name: value for name, value in fields.items() if isinstance(value, torch.Tensor)}
    if len({value.untyped_storage().data_ptr() for value in tensors.values()}) != 1:
        return _rebuild, (cls, fields, None, {})
    rest = {name: value for name, value in fields.items() if name not in tensors}
    places = {
        name: (value.storage_offset() * value.element_size(), value.dtype, tuple(value.shape))
        for name, value in tensors.items()
    }
    memory = torch.empty(0, dtype=torch.uint8).set_(next(iter(tensors.values())).untyped_storage())
    return _rebuild, (cls, rest, memory, places)


def _rebuild(
    cls: Callable[..., Any], fields: dict[str, Any], memory: torch.Tensor | None, places: dict[str, Place]
) -> Any:
    return cls(**fields, **(_views(memory, places) if memory is not None else {}))


def _views(memory: torch.Tensor, places: dict[str, Place]) -> dict[str, torch.Tensor]:
    """Tensors at byte offsets of `memory`, uint8 (bytes,)."""
    views = {}
    for name, (offset, dtype, shape) in places.items():
        size = math.prod(shape) * dtype.itemsize
        views[name] = memory[offset : offset + size].view(dtype).view(shape)
    return views
