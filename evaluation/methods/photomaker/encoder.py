"""PhotoMaker's ID encoder: photos of a person -> tokens of the face, and tokens of the class noun changed by them.

Version 1: CLIP's pooled output by two projections, side by side, as wide as both text encoders; one token a photo. Version 2: the
recogniser's vector makes two tokens a photo, to which a resampler over CLIP's last hidden states is added. Both then fuse each of
these with the embedding of a copy of the class noun: e = LN(m + f2(LN(m))), m = e' + f1(LN([e'; token])), f a GELU between two layers.
"""

from __future__ import annotations

import torch
from diffusers.models.embeddings import IPAdapterPlusImageProjectionBlock
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

IDENTITY_TOKENS = {1: 1, 2: 2}  # of a photo, by version
RESAMPLER_HEAD = 128  # its head's width
RESAMPLER_RATIO = 4  # its inner width, in widths


class Feed(nn.Module):
    """Normed, widened, GELU, and to the width of the result. Names as in the authors' files."""

    def __init__(self, width: int, result: int):
        super().__init__()
        self.layernorm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, result)
        self.fc2 = nn.Linear(result, result)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(nn.functional.gelu(self.fc1(self.layernorm(x))))


class Fusion(nn.Module):
    """Embeddings of the class noun's copies (N, W) and as many tokens of the face (N, W) -> (N, W)."""

    def __init__(self, width: int):
        super().__init__()
        self.mlp1 = Feed(2 * width, width)
        self.mlp2 = Feed(width, width)
        self.layer_norm = nn.LayerNorm(width)

    def forward(self, words: torch.Tensor, face: torch.Tensor) -> torch.Tensor:
        mixed = words + self.mlp1(torch.cat([words, face], dim=-1))
        return self.layer_norm(mixed + self.mlp2(mixed))


class Resampler(nn.Module):
    """Tokens that attend to CLIP's hidden states; the blocks are diffusers' own of IP-Adapter-Plus."""

    def __init__(self, width: int, seen: int, depth: int):
        super().__init__()
        self.proj_in = nn.Linear(seen, width)
        self.layers = nn.ModuleList(
            IPAdapterPlusImageProjectionBlock(width, RESAMPLER_HEAD, width // RESAMPLER_HEAD, RESAMPLER_RATIO)
            for _ in range(depth)
        )
        self.proj_out = nn.Linear(width, width)
        self.norm_out = nn.LayerNorm(width)

    def forward(self, tokens: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        hidden = self.proj_in(hidden)
        for layer in self.layers:
            tokens = layer(hidden, tokens, residual=tokens)
        return self.norm_out(self.proj_out(tokens))


class Perceiver(nn.Module):
    """The recogniser's vectors (N, D) and CLIP's hidden states (N, S, C) -> (N, 2, W)."""

    def __init__(self, vector: int, inner: int, width: int, seen: int, depth: int):
        super().__init__()
        self.token_proj = nn.Sequential(
            nn.Linear(vector, inner), nn.GELU(), nn.Linear(inner, IDENTITY_TOKENS[2] * width)
        )
        self.token_norm = nn.LayerNorm(width)
        self.perceiver_resampler = Resampler(width, seen, depth)

    def forward(self, vectors: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        tokens = self.token_proj(vectors)
        tokens = self.token_norm(tokens.unflatten(-1, (IDENTITY_TOKENS[2], -1)))
        return tokens + self.perceiver_resampler(tokens, hidden)


class IdEncoder(nn.Module):
    """`second`: width of the second text encoder; `perceiver`: of version 2 only."""

    def __init__(self, clip: CLIPVisionConfig, second: int, perceiver: Perceiver | None = None):
        super().__init__()
        self.clip = CLIPVisionModelWithProjection(clip)
        self.visual_projection_2 = nn.Linear(clip.hidden_size, second, bias=False)
        self.fuse_module = Fusion(clip.projection_dim + second)
        self.qformer_perceiver = perceiver

    @property
    def tokens_a_photo(self) -> int:
        return IDENTITY_TOKENS[2 if self.qformer_perceiver else 1]

    def forward(self, pixels: torch.Tensor, vectors: torch.Tensor | None = None) -> torch.Tensor:
        """Photos (N, 3, H, W) and, of version 2, vectors (N, D) -> tokens of the face (N * tokens_a_photo, W), photo by photo."""
        seen = self.clip.vision_model(pixels)
        if self.qformer_perceiver is not None:
            return self.qformer_perceiver(vectors, seen.last_hidden_state).flatten(0, 1)
        pooled = seen.pooler_output
        return torch.cat([self.clip.visual_projection(pooled), self.visual_projection_2(pooled)], dim=-1)

    def merged(self, prompt: torch.Tensor, first: int, face: torch.Tensor) -> torch.Tensor:
        """The prompt's embeddings (1, S, W) with those at `first` and after it, one for each token of the face, fused with them."""
        places = slice(first, first + len(face))
        fused = prompt.clone()
        fused[0, places] = self.fuse_module(prompt[0, places], face)
        return fused
