"""A checkpoint in memory: the authors' three dictionaries of tensors, each in its own dtype, and metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from model.checkpoints import controlnet_layout
from model.checkpoints.layouts import CheckpointError, Dimensions, listed, measure

if TYPE_CHECKING:  # torch takes seconds to import; --help should not
    import torch

    Tensors = dict[str, torch.Tensor]


@dataclass
class Checkpoint:
    """The trained parts, under the authors' key names (see `model.checkpoints.layouts`).

    Attributes:
        image_proj, ip_adapter: the projector; LoRA and image-prompt K and V of the UNet.
        controlnet: None in an IP-Adapter-FaceID-Plus file.
        metadata: `layout` it was read from, `shortcut` "true" or "false", and what the file says besides.
        notes: what was concluded or changed while it was read, as sentences.
    """

    image_proj: Tensors
    ip_adapter: Tensors
    controlnet: Tensors | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def shortcut(self) -> bool:
        """Whether the resampler's output is added to the projected identity (FaceID-Plus v2) or replaces it (v1)."""
        return self.metadata["shortcut"] == "true"

    @property
    def parts(self) -> dict[str, Tensors]:
        parts = {"image_proj": self.image_proj, "ip_adapter": self.ip_adapter}
        return parts if self.controlnet is None else parts | {"controlnet": self.controlnet}

    def json_metadata(self, key: str) -> dict[str, Any]:
        """A JSON object in the metadata: `conditions` (the settings of `model.config.Conditions` in its training) or
        `controlnet_config`; empty where the file has none.

        Raises:
            CheckpointError: not JSON, or not an object.
        """
        text = self.metadata.get(key)
        try:
            value = json.loads(text) if text else {}
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"metadata `{key}` is not JSON ({error}); write the file again") from error
        if not isinstance(value, dict):
            raise CheckpointError(f"metadata `{key}` is a JSON {type(value).__name__}, not an object")
        return value

    def dimensions(self) -> Dimensions:
        """Sizes that all parts agree on.

        Raises:
            CheckpointError: keys, shapes or types are not those of a whole checkpoint.
        """
        for part, tensors in self.parts.items():
            if not_floats := [
                f"{part}.{key} {value.dtype}" for key, value in tensors.items() if not value.is_floating_point()
            ]:
                raise CheckpointError(
                    f"not floating-point numbers: {listed(not_floats)}; quantised weights are not read; take the fp16, "
                    "bf16 or fp32 version of the file"
                )
        dimensions = measure(shapes_of(self.image_proj), shapes_of(self.ip_adapter))
        if self.controlnet is not None:
            controlnet_layout.check(shapes_of(self.controlnet), dimensions)
        return dimensions

    def non_finite(self) -> dict[str, int]:
        """{key: how many of its numbers are NaN or infinite}, of the tensors that have any."""
        return {
            f"{part}.{key}": int((~value.isfinite()).sum())
            for part, tensors in self.parts.items()
            for key, value in tensors.items()
            if not finite(value)
        }


def finite(value: torch.Tensor) -> bool:
    """No NaN, no infinity. Extremes carry both, and are found many times faster than `isfinite` finds either."""
    return not value.numel() or all(extreme.isfinite() for extreme in value.aminmax())


def shapes_of(tensors: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in tensors.items()}


def bit_equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    """The same dtype, shape and bits; unlike `==`, true of equal NaNs."""
    import torch

    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return torch.equal(one.contiguous().view(-1).view(torch.uint8), other.contiguous().view(-1).view(torch.uint8))


def cast(checkpoint: Checkpoint, dtype: torch.dtype) -> tuple[Checkpoint, float]:
    """The checkpoint in `dtype`, and the largest change of any number that this made (0 where nothing was lost)."""
    largest = 0.0
    parts = {}
    for part, tensors in checkpoint.parts.items():
        parts[part] = {key: value.to(dtype) for key, value in tensors.items()}
        for key, value in tensors.items():
            if value.dtype != dtype and finite(value):
                largest = max(largest, float((parts[part][key].double() - value.double()).abs().max()))
    return replace(checkpoint, **parts, metadata=dict(checkpoint.metadata)), largest
