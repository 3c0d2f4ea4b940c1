"""The published networks as plain functions of a file's tensors: what is learnt is looked up by its published name."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = Mapping[str, Tensor]


def under(weights: Weights, prefix: str) -> dict[str, Tensor]:
    """What is named `prefix`..., under the rest of its name."""
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def linear(weights: Weights, name: str, x: Tensor) -> Tensor:
    y = x @ weights[f"{name}.weight"].T
    return y + weights[f"{name}.bias"] if f"{name}.bias" in weights else y


def layer_norm(weights: Weights, name: str, x: Tensor, eps: float = 1e-5) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + eps)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def attention(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """softmax(q k' / sqrt(width of a head)) v of (batch, tokens, width)."""
    batch, tokens, width = query.shape

    def split(x: Tensor) -> Tensor:
        return x.reshape(batch, -1, heads, width // heads).transpose(1, 2)

    weight = (split(query) @ split(key).transpose(-1, -2) / (width // heads) ** 0.5).softmax(-1)
    return (weight @ split(value)).transpose(1, 2).reshape(batch, tokens, width)


def quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


def clip_vision(weights: Weights, pixels: Tensor, heads: int, act) -> list[Tensor]:
    """The hidden states of a CLIP image encoder: before the first layer, and after each."""
    w = under(weights, "vision_model.")
    kernel = w["embeddings.patch_embedding.weight"]
    patches = F.conv2d(pixels, kernel, stride=kernel.shape[-1]).flatten(2).transpose(1, 2)
    cls = w["embeddings.class_embedding"].expand(len(pixels), 1, -1)
    x = torch.cat([cls, patches], 1) + w["embeddings.position_embedding.weight"]
    x = layer_norm(w, "pre_layrnorm", x)
    states = [x]
    for layer in range(sum(name.endswith("mlp.fc1.weight") for name in w)):
        own = under(w, f"encoder.layers.{layer}.")
        y = layer_norm(own, "layer_norm1", x)
        q, k, v = (linear(own, f"self_attn.{part}_proj", y) for part in "qkv")
        x = x + linear(own, "self_attn.out_proj", attention(q, k, v, heads))
        x = x + linear(own, "mlp.fc2", act(linear(own, "mlp.fc1", layer_norm(own, "layer_norm2", x))))
        states.append(x)
    return states


def resampler(weights: Weights, queries: Tensor, features: Tensor, head_width: int) -> Tensor:
    """Queries that look at features and at each other, layer by layer (the Perceiver of IP-Adapter)."""
    features = linear(weights, "proj_in", features)
    x = queries
    for layer in range(sum(name.endswith(".0.to_q.weight") for name in weights)):
        own = under(weights, f"layers.{layer}.")
        normed = layer_norm(own, "0.norm2", x)
        seen = torch.cat([layer_norm(own, "0.norm1", features), normed], 1)
        q = linear(own, "0.to_q", normed)
        k, v = linear(own, "0.to_kv", seen).chunk(2, -1)
        x = x + linear(own, "0.to_out", attention(q, k, v, q.shape[-1] // head_width))
        x = x + linear(own, "1.3", F.gelu(linear(own, "1.1", layer_norm(own, "1.0", x))))
    return layer_norm(weights, "norm_out", linear(weights, "proj_out", x))


def tokens_of_vector(weights: Weights, vector: Tensor, proj: str, norm: str) -> Tensor:
    """Linear, GELU, linear, cut into tokens as wide as the norm is."""
    x = linear(weights, f"{proj}.2", F.gelu(linear(weights, f"{proj}.0", vector)))
    return layer_norm(weights, norm, x.reshape(len(vector), -1, len(weights[f"{norm}.weight"])))


def fused(weights: Weights, word: Tensor, face: Tensor, normed: bool = True) -> Tensor:
    """PhotoMaker's fuse module: the word before the trigger, and what was seen of the face."""

    def mlp(name: str, x: Tensor) -> Tensor:
        own = under(weights, f"{name}.")
        return linear(own, "fc2", F.gelu(linear(own, "fc1", layer_norm(own, "layernorm", x))))

    x = mlp("mlp1", torch.cat([word, face], -1)) + word
    x = mlp("mlp2", x) + x
    return layer_norm(weights, "layer_norm", x) if normed else x
