"""Text, noise and steps written out: prompts into states, attention with what a file adds, DDIM and Euler with
classifier-free guidance."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from tests.evaluation.methods.independent.networks import Weights, attention, linear, under

Noise = Callable[[Tensor, Tensor, int], Tensor]  # two copies of the latents, the time, the step: two predictions


@cache
def opened(file: Path) -> dict[str, dict[str, Tensor]]:
    """An adapter's file: its parts, each of named tensors."""
    return torch.load(file, weights_only=True)


@cache
def tokenizer_of(folder: Path, *added: str) -> CLIPTokenizer:
    """With words that are a token of their own."""
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(list(added), special_tokens=True)
    return tokenizer


def tokenised(folder: Path, prompt: str) -> Tensor:
    tokenizer = tokenizer_of(folder)
    return tokenizer(prompt, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids


@cache
def text_encoders(base: Path) -> tuple[CLIPTextModel, CLIPTextModelWithProjection | None]:
    first, second = base / "text_encoder", base / "text_encoder_2"
    return (
        CLIPTextModel.from_pretrained(first).eval(),
        CLIPTextModelWithProjection.from_pretrained(second).eval() if second.exists() else None,
    )


@cache
def sd_text(base: Path, prompt: str) -> Tensor:
    return text_encoders(base)[0](tokenised(base / "tokenizer", prompt)).last_hidden_state


def sdxl_states(base: Path, ids: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Both encoders' states before the last layer, side by side, and the second one's pooled vector."""
    first, second = (
        model(each, output_hidden_states=True) for model, each in zip(text_encoders(base), ids, strict=True)
    )
    return torch.cat([first.hidden_states[-2], second.hidden_states[-2]], -1), second.text_embeds


@cache
def sdxl_text(base: Path, prompt: str) -> tuple[Tensor, Tensor]:
    return sdxl_states(base, [tokenised(base / which, prompt) for which in ("tokenizer", "tokenizer_2")])


class Attention:
    """A layer's attention with what an adapter's file adds to it: LoRA on every projection, and a look at the face.

    `added`: the file's tensors of this layer. The last `tokens` states are the face's, where the layer has face weights.
    """

    def __init__(self, added: Weights, tokens: int = 0, scale: float = 1.0, lora: float = 1.0) -> None:
        self.added, self.tokens, self.scale, self.lora = added, tokens, scale, lora
        self.outputs: list[Tensor] = []

    def through(self, layer: torch.nn.Linear, name: str, x: Tensor) -> Tensor:
        low = f"{name}_lora.down"
        if f"{low}.weight" not in self.added:
            return layer(x)
        return layer(x) + self.lora * linear(self.added, f"{name}_lora.up", linear(self.added, low, x))

    def __call__(
        self, attn, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, attention_mask=None, temb=None
    ) -> Tensor:
        assert attention_mask is None and not attn.residual_connection and attn.rescale_output_factor == 1
        seen = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        face = None
        if encoder_hidden_states is not None and self.tokens:
            seen, face = seen[:, : -self.tokens], seen[:, -self.tokens :]
        query = self.through(attn.to_q, "to_q", hidden_states)
        key, value = self.through(attn.to_k, "to_k", seen), self.through(attn.to_v, "to_v", seen)
        x = attention(query, key, value, attn.heads)
        if face is not None:
            key, value = linear(self.added, "to_k_ip", face), linear(self.added, "to_v_ip", face)
            x = x + self.scale * attention(query, key, value, attn.heads)
        x = self.through(attn.to_out[0], "to_out", x)
        if encoder_hidden_states is not None:
            self.outputs.append(x)
        return x


@cache
def stock_unet(base: Path) -> UNet2DConditionModel:
    return UNet2DConditionModel.from_pretrained(base / "unet").eval()


def unet_with(base: Path, added: Callable[[int, str], Attention]) -> UNet2DConditionModel:
    """The base's U-Net, every attention of it replaced; `added` is asked by place in the list, and by name."""
    unet = stock_unet(base)
    unet.set_attn_processor({name: added(place, name) for place, name in enumerate(unet.attn_processors)})
    return unet


def numbered(weights: Weights, place: int) -> dict[str, Tensor]:
    return under(weights, f"{place}.")


def cross_outputs(unet: UNet2DConditionModel) -> list[Tensor]:
    """What every cross-attention gave, layer by layer and call by call."""
    return [output for own in unet.attn_processors.values() for output in own.outputs]


def noise_of(seed: int, height: int, width: int) -> Tensor:
    shape = (1, 4, height // 8, width // 8)
    return torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed))


def guided(both: Tensor, guidance: float) -> Tensor:
    without, with_prompt = both.chunk(2)
    return without + guidance * (with_prompt - without)


def kept_signal() -> list[float]:
    """Stable Diffusion's 1000 products of (1 - beta), beta linear in its root."""
    return np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2).tolist()


def ddim(noise: Noise, x: Tensor, steps: int, guidance: float, offset: int = 1, last: float | None = None) -> Tensor:
    """DDIM without noise. `last`: the signal kept after the last step, of the first time unless given."""
    kept = kept_signal()
    stride = 1000 // steps
    for step in range(steps):
        time = stride * (steps - 1 - step) + offset
        before = kept[time - stride] if time >= stride else (kept[0] if last is None else last)
        epsilon = guided(noise(torch.cat([x, x]), torch.tensor(time), step), guidance)
        clean = (x - (1 - kept[time]) ** 0.5 * epsilon) / kept[time] ** 0.5
        x = before**0.5 * clean + (1 - before) ** 0.5 * epsilon
    return x


def euler(noise: Noise, x: Tensor, steps: int, guidance: float, scheduler: Mapping[str, object]) -> Tensor:
    """Euler over sigma = sqrt((1 - kept) / kept); `scheduler`: the base's settings, which say how times are spread."""
    kept = kept_signal()
    every = [((1 - signal) / signal) ** 0.5 for signal in kept]
    if scheduler["timestep_spacing"] == "linspace":
        times = np.linspace(0, 999, steps)[::-1].astype(np.float32)
    else:
        times = (np.arange(steps)[::-1] * (1000 // steps) + scheduler["steps_offset"]).astype(np.float32)
    sigmas = [*np.interp(times, np.arange(1000), every).tolist(), 0.0]
    x = x * (sigmas[0] if scheduler["timestep_spacing"] == "linspace" else (sigmas[0] ** 2 + 1) ** 0.5)
    for step, time in enumerate(times):
        scaled = x / (sigmas[step] ** 2 + 1) ** 0.5
        epsilon = guided(noise(torch.cat([scaled, scaled]), torch.tensor(time), step), guidance)
        x = x + (sigmas[step + 1] - sigmas[step]) * epsilon
    return x


def scheduler_of(base: Path) -> dict[str, object]:
    return json.loads((base / "scheduler" / "scheduler_config.json").read_text())
