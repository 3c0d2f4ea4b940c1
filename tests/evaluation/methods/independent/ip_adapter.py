"""IP-Adapter-FaceID, -Plus and -PlusV2 written a second time, with a slip where one is named."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from tests.evaluation.methods.independent.faces import aligned, clip_pixels, recognised
from tests.evaluation.methods.independent.networks import clip_vision, resampler, tokens_of_vector, under
from tests.evaluation.methods.independent.sampling import (
    Attention,
    cross_outputs,
    ddim,
    noise_of,
    numbered,
    opened,
    sd_text,
    unet_with,
)

FACE_SLIPS = (
    "recogniser sees BGR",
    "identity not normalised",
    "zero tokens for no face",
)
PLUS_SLIPS = (
    "CLIP sees the other order",
    "last hidden state",
    "zero features for no face",
    "shortcut the other way",
)
SHORTCUT_SLIPS = ("shortcut scale left out", "shortcut subtracted")
DRAWING_SLIPS = (
    "no text for no prompt",
    "face scale left out",
    "face left out",
    "face subtracted",
    "key and value swapped",
    "LoRA left out",
    "LoRA on cross-attention only",
    "LoRA halved",
    "layers in another order",
    "halves swapped",
    "guidance left out",
    "steps without offset",
    "all signal at the end",
)


@dataclass
class OwnIpAdapter:
    """`files` by role, in the authors' layout; `settings` as the method under test has them."""

    files: Mapping[str, Path]
    settings: object
    shortcut: bool
    slip: str = ""

    @property
    def plus(self) -> bool:
        return "image_encoder" in self.files

    def identity(self, rgb: np.ndarray, points: np.ndarray) -> Tensor:
        vector = recognised(self.files["recogniser"], rgb, points, self.slip)
        return vector if self.slip == "identity not normalised" else vector / vector.norm()

    @cached_property
    def _clip(self) -> tuple[dict[str, Tensor], dict]:
        folder = self.files["image_encoder"]
        return load_file(folder / "model.safetensors"), json.loads((folder / "config.json").read_text())

    def _states(self, pixels: Tensor) -> Tensor:
        """ViT-H of LAION: plain GELU; the layer before the last, without the norm after it."""
        weights, config = self._clip
        assert config["hidden_act"] == "gelu"
        states = clip_vision(weights, pixels, config["num_attention_heads"], F.gelu)
        return states[-1 if self.slip == "last hidden state" else -2]

    def _pixels(self, rgb: np.ndarray, points: np.ndarray) -> Tensor:
        crop = aligned(rgb, points, 224)
        swapped = (self.settings.clip_channels == "bgr") != (self.slip == "CLIP sees the other order")
        return clip_pixels(crop[..., ::-1].copy() if swapped else crop, self._clip[1]["image_size"])

    def features(self, rgb: np.ndarray, points: np.ndarray) -> Tensor:
        return self._states(self._pixels(rgb, points))

    def _projected(self, identity: Tensor, features: Tensor | None) -> Tensor:
        weights = opened(self.files["adapter"])["image_proj"]
        tokens = tokens_of_vector(weights, identity, "proj", "norm")
        if features is None:
            return tokens
        seen = resampler(under(weights, "perceiver_resampler."), tokens, features, head_width=64)
        if self.shortcut == (self.slip == "shortcut the other way"):
            return seen
        scale = 1.0 if self.slip == "shortcut scale left out" else self.settings.shortcut_scale
        return tokens + (-scale if self.slip == "shortcut subtracted" else scale) * seen

    def tokens(self, rgb: np.ndarray, points: np.ndarray) -> Tensor:
        """(2, 4, d): of no face (a zero vector, CLIP's features of zero pixels), and of the face."""
        identity = self.identity(rgb, points)
        features = nothing = None
        if self.plus:
            features = self.features(rgb, points)
            nothing = self._states(torch.zeros_like(self._pixels(rgb, points)))
            if self.slip == "zero features for no face":
                nothing = torch.zeros_like(nothing)
        face = self._projected(identity, features)
        none = self._projected(torch.zeros_like(identity), nothing)
        return torch.cat([torch.zeros_like(none) if self.slip == "zero tokens for no face" else none, face])

    def _attention(self, place: int, name: str) -> Attention:
        if self.slip == "layers in another order":  # of the up block's two
            place = {2: 4, 3: 5, 4: 2, 5: 3}.get(place, place)
        added = dict(numbered(opened(self.files["adapter"])["ip_adapter"], place))
        cross = name.endswith("attn2.processor")
        if self.slip == "key and value swapped" and cross:
            added["to_k_ip.weight"], added["to_v_ip.weight"] = added["to_v_ip.weight"], added["to_k_ip.weight"]
        scale = {"face scale left out": 1.0, "face left out": 0.0, "face subtracted": -self.settings.ip_scale}
        left_out = self.slip == "LoRA left out" or (self.slip == "LoRA on cross-attention only" and not cross)
        lora = 0.0 if left_out else 0.5 if self.slip == "LoRA halved" else 1.0
        return Attention(added, 4, scale.get(self.slip, self.settings.ip_scale), lora)

    def draw(self, tokens: Tensor, prompt: str, seed: int) -> tuple[Tensor, list[Tensor]]:
        """The last latents, and what every cross-attention gave."""
        base, settings = self.files["base"], self.settings
        negative = "" if self.slip == "no text for no prompt" else settings.negative_prompt
        text = torch.cat([sd_text(base, negative), sd_text(base, prompt)])
        unet = unet_with(base, self._attention)
        states = torch.cat([text, tokens], 1)
        if self.slip == "halves swapped":
            states = states.flip(0)

        def noise(x: Tensor, time: Tensor, step: int) -> Tensor:
            return unet(x, time, encoder_hidden_states=states).sample

        latents = ddim(
            noise,
            noise_of(seed, settings.size, settings.size),
            settings.steps,
            1.0 if self.slip == "guidance left out" else settings.guidance,
            offset=0 if self.slip == "steps without offset" else 1,
            last=1.0 if self.slip == "all signal at the end" else None,
        )
        return latents, cross_outputs(unet)
