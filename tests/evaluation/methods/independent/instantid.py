"""InstantID written a second time, with a slip where one is named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from diffusers import ControlNetModel
from PIL import Image
from torch import Tensor

from tests.evaluation.methods.independent.faces import recognised
from tests.evaluation.methods.independent.networks import resampler
from tests.evaluation.methods.independent.sampling import (
    Attention,
    cross_outputs,
    euler,
    noise_of,
    numbered,
    opened,
    scheduler_of,
    sdxl_text,
    unet_with,
)

FACE_SLIPS = (
    "recogniser sees BGR",
    "identity normalised",
    "zero tokens for no face",
    "same tokens for no face",
)
POSE_SLIPS = ("pose in BGR", "limbs not dimmed")
DRAWING_SLIPS = (
    "pose in BGR",
    "pose in -1..1",
    "ControlNet reads text",
    "ControlNet without pooled text",
    "ControlNet scale left out",
    "ControlNet left out",
    "no text for no prompt",
    "face scale left out",
    "face left out",
    "face subtracted",
    "key and value swapped",
    "middle before up",
    "halves swapped",
    "guidance left out",
    "sizes left out",
)


@cache
def stock_controlnet(folder: Path) -> ControlNetModel:
    return ControlNetModel.from_pretrained(folder).eval()


def resized(rgb: np.ndarray, longest: int, multiple: int) -> np.ndarray:
    """The reference at the authors' size: its shorter side 1024, of this the longer side `longest`, whole pixels each
    time; then both sides down to multiples. Bilinear, both times that it is done."""
    height, width = rgb.shape[:2]
    ratio = 1024 / min(height, width)
    width, height = round(ratio * width), round(ratio * height)
    ratio = longest / max(height, width)
    size = round(ratio * width), round(ratio * height)
    picture = Image.fromarray(rgb).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(picture.resize([side // multiple * multiple for side in size], Image.Resampling.BILINEAR))


@dataclass
class OwnInstantId:
    """`files` by role, in the authors' layout; `settings` as the method under test has them."""

    files: Mapping[str, Path]
    settings: object
    slip: str = ""

    def vector(self, rgb: np.ndarray, points: np.ndarray) -> Tensor:
        vector = recognised(self.files["recogniser"], rgb, points, self.slip)
        return vector / vector.norm() if self.slip == "identity normalised" else vector

    def tokens(self, vector: Tensor) -> Tensor:
        """(2, 16, d): of a zero vector, and of the face."""
        weights = opened(self.files["adapter"])["image_proj"]
        pair = torch.cat([torch.zeros_like(vector), vector])[:, None]
        tokens = resampler(weights, weights["latents"].expand(2, -1, -1), pair, head_width=64)
        if self.slip == "zero tokens for no face":
            tokens[0] = 0
        if self.slip == "same tokens for no face":
            tokens[0] = tokens[1]
        return tokens

    def _attention(self, place: int, name: str) -> Attention:
        if self.slip == "middle before up":  # of 16 layers: 4 down, 8 up, 4 in the middle
            place = place - 8 if place >= 12 else place + 4 if place >= 4 else place
        added = dict(numbered(opened(self.files["adapter"])["ip_adapter"], place))
        if self.slip == "key and value swapped" and added:
            added["to_k_ip.weight"], added["to_v_ip.weight"] = added["to_v_ip.weight"], added["to_k_ip.weight"]
        scale = {"face scale left out": 1.0, "face left out": 0.0, "face subtracted": -self.settings.ip_scale}
        return Attention(added, 16, scale.get(self.slip, self.settings.ip_scale))

    def draw(self, tokens: Tensor, pose: np.ndarray, prompt: str, seed: int) -> tuple[Tensor, list[Tensor]]:
        """The last latents, and what every cross-attention of the U-Net gave."""
        base, settings, slip = self.files["base"], self.settings, self.slip
        height, width = pose.shape[:2]
        texts = [
            sdxl_text(base, each)
            for each in ("" if slip == "no text for no prompt" else settings.negative_prompt, prompt)
        ]
        text, pooled = (torch.cat(parts) for parts in zip(*texts, strict=True))
        if slip == "halves swapped":
            tokens = tokens.flip(0)
        states = torch.cat([text, tokens], 1)
        sizes = torch.tensor([[height, width, 0, 0, height, width]], dtype=torch.float32).repeat(2, 1)
        sizes = torch.zeros_like(sizes) if slip == "sizes left out" else sizes
        added = {"text_embeds": pooled, "time_ids": sizes}
        hint = torch.from_numpy(pose).permute(2, 0, 1)[None].repeat(2, 1, 1, 1) / 255
        hint = hint * 2 - 1 if slip == "pose in -1..1" else hint
        scale = {"ControlNet scale left out": 1.0, "ControlNet left out": 0.0}.get(slip, settings.controlnet_scale)
        controlnet, unet = stock_controlnet(self.files["controlnet"]), unet_with(base, self._attention)

        def noise(x: Tensor, time: Tensor, step: int) -> Tensor:
            without = added | {"text_embeds": torch.zeros_like(pooled)}
            down, mid = controlnet(
                x,
                time,
                encoder_hidden_states=text if slip == "ControlNet reads text" else tokens,
                controlnet_cond=hint,
                added_cond_kwargs=without if slip == "ControlNet without pooled text" else added,
                return_dict=False,
            )
            return unet(
                x,
                time,
                encoder_hidden_states=states,
                added_cond_kwargs=added,
                down_block_additional_residuals=[scale * residual for residual in down],
                mid_block_additional_residual=scale * mid,
            ).sample

        guidance = 1.0 if slip == "guidance left out" else settings.guidance
        latents = euler(noise, noise_of(seed, height, width), settings.steps, guidance, scheduler_of(base))
        return latents, cross_outputs(unet)
