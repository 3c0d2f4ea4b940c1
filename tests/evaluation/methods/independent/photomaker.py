"""PhotoMaker v1 and v2 written a second time, with a slip where one is named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.evaluation.methods.independent.faces import clip_pixels, recognised
from tests.evaluation.methods.independent.networks import (
    clip_vision,
    fused,
    layer_norm,
    linear,
    quick_gelu,
    resampler,
    tokens_of_vector,
    under,
)
from tests.evaluation.methods.independent.sampling import (
    Attention,
    cross_outputs,
    euler,
    noise_of,
    opened,
    scheduler_of,
    sdxl_states,
    sdxl_text,
    tokenizer_of,
    unet_with,
)

V1_SLIPS = ("no norm after the last layer", "projections swapped")
V2_SLIPS = (
    "recogniser sees BGR",
    "identity normalised",
    "norm after the last layer",
    "residual left out",
    "residual subtracted",
    "narrow heads",
)
ENCODER_SLIPS = ("CLIP sees BGR", "plain GELU")
PROMPT_SLIPS = (
    "word left out of the fusion",
    "norm after the fusion left out",
    "word and face swapped",
    "trigger kept in the text",
    "fused at the trigger's place",
)
DRAWING_SLIPS = (
    "merged a step early",
    "merged a step late",
    "never merged",
    "text only pooled",
    "no text for no prompt",
    "face without prompt",
    "LoRA left out",
    "LoRA on cross-attention only",
    "LoRA halved",
    "halves swapped",
    "guidance left out",
    "sizes left out",
)


@dataclass(frozen=True)
class Texts:
    """Both states and both pooled vectors of a prompt, with and without the face, and of the negative prompt."""

    text_only: Tensor
    merged: Tensor
    negative: Tensor
    pooled_text_only: Tensor
    pooled_merged: Tensor
    pooled_negative: Tensor


@dataclass
class OwnPhotoMaker:
    """`files` by role, in the authors' layout; `settings` as the method under test has them."""

    files: Mapping[str, Path]
    settings: object
    slip: str = ""

    @property
    def _weights(self) -> dict[str, Tensor]:
        return opened(self.files["adapter"])["id_encoder"]

    @property
    def version(self) -> int:
        return 2 if any(name.startswith("qformer_perceiver.") for name in self._weights) else 1

    def pixels(self, photos: Sequence[np.ndarray]) -> Tensor:
        """The whole photo as CLIP's processor makes it."""
        patches = len(self._weights["vision_model.embeddings.position_embedding.weight"]) - 1
        size = 14 * round(patches**0.5)
        if self.slip == "CLIP sees BGR":
            photos = [photo[..., ::-1].copy() for photo in photos]
        return torch.cat([clip_pixels(photo, size) for photo in photos])

    def vectors(self, photos: Sequence[np.ndarray], points: Sequence[np.ndarray]) -> Tensor:
        vectors = torch.cat(
            [recognised(self.files["recogniser"], *each, self.slip) for each in zip(photos, points, strict=True)]
        )
        return F.normalize(vectors) if self.slip == "identity normalised" else vectors

    def tokens(self, pixels: Tensor, vectors: Tensor | None) -> Tensor:
        """v1: a token a photo, of CLIP's pooled vector; v2: two, of the recogniser's, looking at CLIP's last states."""
        weights, slip = self._weights, self.slip
        heads = len(weights["vision_model.embeddings.class_embedding"]) // 64  # the authors': 16 of 1024
        last = clip_vision(weights, pixels, heads, F.gelu if slip == "plain GELU" else quick_gelu)[-1]
        normed = layer_norm(weights, "vision_model.post_layernorm", last)
        if self.version == 1:
            pooled = (last if slip == "no norm after the last layer" else normed)[:, 0]
            names = ["visual_projection", "visual_projection_2"]
            names = names[::-1] if slip == "projections swapped" else names
            return torch.cat([linear(weights, name, pooled) for name in names], -1)
        own = under(weights, "qformer_perceiver.")
        x = tokens_of_vector(own, vectors, "token_proj", "token_norm")
        last = normed if slip == "norm after the last layer" else last
        seen = resampler(under(own, "perceiver_resampler."), x, last, head_width=64 if slip == "narrow heads" else 128)
        x = {"residual left out": seen, "residual subtracted": x - seen}.get(slip, x + seen)
        return x.reshape(-1, x.shape[-1])

    def _ids(self, which: str, prompt: str, count: int) -> tuple[Tensor, int]:
        """Cut to 77 with an end token; then the trigger goes, and the word before it comes `count` times; cut again.
        And where the first of these is."""
        tokenizer = tokenizer_of(self.files["base"] / which, self.settings.trigger)
        ids = tokenizer(prompt, padding="max_length", max_length=77, truncation=True).input_ids
        place = ids.index(tokenizer.convert_tokens_to_ids(self.settings.trigger))
        kept = tokenizer_of(self.files["base"] / which)(self.settings.trigger).input_ids[1:-1]
        after = [*kept, *ids[place + 1 :]] if self.slip == "trigger kept in the text" else ids[place + 1 :]
        ids = [*ids[: place - 1], *[ids[place - 1]] * count, *after]
        ids = (ids + [tokenizer.pad_token_id] * 77)[:77]
        return torch.tensor([ids]), place if self.slip == "fused at the trigger's place" else place - 1

    def texts(self, face: Tensor, prompt: str) -> Texts:
        base, settings = self.files["base"], self.settings
        both = [self._ids(which, prompt, len(face)) for which in ("tokenizer", "tokenizer_2")]
        states, pooled = sdxl_states(base, [ids for ids, _ in both])
        span = slice(both[-1][1], both[-1][1] + len(face))
        merged = states.clone()
        merged[0, span] = self._fused(states[0, span], face)
        text_only, pooled_text_only = sdxl_text(base, prompt.replace(f" {settings.trigger}", ""))
        negative, pooled_negative = sdxl_text(base, settings.negative_prompt)
        return Texts(text_only, merged, negative, pooled_text_only, pooled, pooled_negative)

    def _fused(self, word: Tensor, face: Tensor) -> Tensor:
        weights = under(self._weights, "fuse_module.")
        if self.slip == "word and face swapped":
            return fused(weights, face, word)
        if self.slip == "norm after the fusion left out":
            return fused(weights, word, face, normed=False)
        return fused(weights, torch.zeros_like(word) if self.slip == "word left out of the fusion" else word, face)

    def _attention(self, place: int, name: str) -> Attention:
        added = under(opened(self.files["adapter"])["lora_weights"], f"unet.{name}.")
        assert added, name
        left_out = self.slip == "LoRA left out" or (self.slip == "LoRA on cross-attention only" and "attn1" in name)
        return Attention(added, lora=0.0 if left_out else 0.5 if self.slip == "LoRA halved" else 1.0)

    def draw(self, face: Tensor, prompt: str, seed: int) -> tuple[Tensor, list[Tensor]]:
        """The last latents, and what every cross-attention gave."""
        base, settings, slip = self.files["base"], self.settings, self.slip
        texts = self.texts(face, prompt)
        negative, pooled_negative = texts.negative, texts.pooled_negative
        if slip == "no text for no prompt":
            negative, pooled_negative = sdxl_text(base, "")
        sizes = torch.tensor([[settings.size, settings.size, 0, 0, settings.size, settings.size]] * 2).float()
        sizes = torch.zeros_like(sizes) if slip == "sizes left out" else sizes
        unet = unet_with(base, self._attention)
        last_without = settings.start_merge_step + {
            "merged a step early": -1,
            "merged a step late": 1,
            "never merged": 1000,
        }.get(slip, 0)

        def noise(x: Tensor, time: Tensor, step: int) -> Tensor:
            if step <= last_without:
                positive, pooled = texts.text_only, texts.pooled_text_only
            else:
                positive = texts.merged
                pooled = texts.pooled_text_only if slip == "text only pooled" else texts.pooled_merged
            without = texts.merged if slip == "face without prompt" and step > last_without else negative
            states, added = torch.cat([without, positive]), torch.cat([pooled_negative, pooled])
            if slip == "halves swapped":
                states, added = states.flip(0), added.flip(0)
            given = {"text_embeds": added, "time_ids": sizes}
            return unet(x, time, encoder_hidden_states=states, added_cond_kwargs=given).sample

        guidance = 1.0 if slip == "guidance left out" else settings.guidance
        start = noise_of(seed, settings.size, settings.size)
        return euler(noise, start, settings.steps, guidance, scheduler_of(base)), cross_outputs(unet)
