"""A micro-batch: the tensors of the samples that one rank takes in one pass."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from training.data.packed_batch import reduce_as_one_tensor


@dataclass
class MicroBatch:
    """B samples of step `t`, on the CPU.

    `image` (B, 3, H, W) in -1..1; `pose_map` (B, 3, H, W) in 0..1; `clip_pixels` (B, 3, S, S); `identity` (B, D);
    where the encoder cache has them, in the place of `image` its `moments` (B, 8, H/8, W/8), means and standard deviations, and in
    that of `clip_pixels` `clip_states` (B, 1 + patches, C);
    `input_ids` (B, 77); `noise`, `vae_noise` (B, 4, H/8, W/8) and `offset` (B, 4, 1, 1) standard normal; `timestep` (B,);
    `keep_text`, `keep_identity`, `keep_clip`, `keep_pose`, `valid` (B,) of 0 and 1. `corrupt`: (id, why).
    """

    t: int
    ids: list[str]
    pose_map: torch.Tensor
    identity: torch.Tensor
    input_ids: torch.Tensor
    noise: torch.Tensor
    vae_noise: torch.Tensor
    offset: torch.Tensor
    timestep: torch.Tensor
    keep_text: torch.Tensor
    keep_identity: torch.Tensor
    keep_clip: torch.Tensor
    keep_pose: torch.Tensor
    valid: torch.Tensor
    image: torch.Tensor | None = None
    clip_pixels: torch.Tensor | None = None
    moments: torch.Tensor | None = None
    clip_states: torch.Tensor | None = None
    corrupt: list[tuple[str, str]] = field(default_factory=list)

    def __reduce__(self):
        return reduce_as_one_tensor(MicroBatch, vars(self))

    def tensors(self) -> dict[str, torch.Tensor]:
        return {name: value for name, value in vars(self).items() if isinstance(value, torch.Tensor)}

    def to(self, device: torch.device) -> MicroBatch:
        moved = {name: to_device(value, device) for name, value in self.tensors().items()}
        return MicroBatch(**{**vars(self), **moved})

    def pin_memory(self) -> MicroBatch:
        """Called by torch's loader."""
        return MicroBatch(**{**vars(self), **{name: value.pin_memory() for name, value in self.tensors().items()}})


def can_pin(device: torch.device) -> bool:
    """Has this device a way of its own to read the host's memory, which takes pages that stay where they are?"""
    return device.type == "cuda" and torch.cuda.is_available()


def to_device(value: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Sent from the host without waiting: for memory that is not pinned CUDA would wait until all before is done."""
    if can_pin(device) and not value.is_pinned():
        value = value.pin_memory()
    return value.to(device, non_blocking=True)
