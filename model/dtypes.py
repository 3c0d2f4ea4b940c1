"""The number formats that users choose from, by name. Importing this does not import torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

DTYPES = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32"}


def torch_dtype(name: str) -> torch.dtype:
    """torch's own for one of the names in `DTYPES`; KeyError for another."""
    import torch

    return getattr(torch, DTYPES[name])
