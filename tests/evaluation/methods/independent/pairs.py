"""A method's loaded twin with its files, its photo and the face's five points, and how far two results are apart."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from torch import Tensor

from evaluation.methods.base import DrawingMethod

SAME = 2e-5  # float32: 1e-4 at values of five
FAR = 50 * SAME


def apart(a: Tensor, b: Tensor) -> float:
    """The largest difference, as a part of the largest value where that is above one."""
    assert a.shape == b.shape, (a.shape, b.shape)
    return float((a - b).abs().max() / b.abs().max().clamp(min=1))


@dataclass
class Pair:
    """What both implementations are given."""

    twin: DrawingMethod
    rgb: np.ndarray

    @property
    def files(self) -> dict[str, Path]:
        return {role: found.path for role, found in self.twin.found.items()}

    @cached_property
    def face(self) -> object:
        """What the method made of the photo."""
        return self.twin.prepare([self.rgb])

    @cached_property
    def points(self) -> np.ndarray:
        """The detector is one and the same for both: its five points are given, what is made of them is compared."""
        return self.twin.reader.largest(self.rgb).landmarks

    def drawn(self, face: object, prompt: str, seed: int) -> tuple[Tensor, list[Tensor]]:
        """The method's last latents, and what every cross-attention of its U-Net gave, layer by layer, call by call."""
        seen: dict[str, list[Tensor]] = {}
        hooks = []
        for name, module in self.twin.pipeline.unet.named_modules():
            if name.endswith("attn2"):
                own = seen.setdefault(name, [])
                hooks.append(module.register_forward_hook(lambda _, __, output, own=own: own.append(output)))
        try:
            latents = self.twin.draw(face, prompt, seed, output_type="latent")
        finally:
            for hook in hooks:
                hook.remove()
        return latents, [output for outputs in seen.values() for output in outputs]
