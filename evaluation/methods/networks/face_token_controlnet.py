"""A ControlNet that attends to the face's tokens in the place of the text: InstantID's IdentityNet.

The weights are a stock ControlNetModel's; a stock pipeline hands it the text, which it passes over.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import ControlNetModel


class FaceTokenControlNet(ControlNetModel):
    """`face_tokens`: (B, tokens, d), of the drawing in hand, unconditional first; state of the module: one drawing at a time."""

    face_tokens: torch.Tensor | None = None

    def forward(
        self, sample: torch.Tensor, timestep: Any, encoder_hidden_states: torch.Tensor, *arguments: Any, **named: Any
    ) -> Any:
        """As ControlNetModel's; `encoder_hidden_states`, the text, is not looked at.

        Raises:
            ValueError: no tokens were set, or not as many as there are samples.
        """
        if self.face_tokens is None or len(self.face_tokens) != len(sample):
            raise ValueError(f"{len(sample)} samples: set face_tokens, one row for each, before drawing")
        return super().forward(sample, timestep, self.face_tokens.to(sample), *arguments, **named)
