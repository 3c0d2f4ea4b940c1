"""The projector: an identity vector and CLIP hidden states -> four face tokens.

The network is diffusers' own FaceID-Plus projection (facts: IP-Adapter's ProjPlusModel). This file gives it a
configuration, a stateless forward, and the translation of the key names both ways, because released checkpoints have
IP-Adapter's names. It imports nothing of this project: exported folders carry this file as it is.
"""

from collections.abc import Mapping

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import IPAdapterFaceIDPlusImageProjection

# what diffusers' loader assumes of every FaceID-Plus file, and cannot read from it; as in model/checkpoints/layouts.py
TOKENS = 4
DEPTH = 4
HEAD_DIM = 64
HIDDEN_RATIO = 2


class FaceProjector(ModelMixin, ConfigMixin):
    """`identity_dim` D and CLIP hidden states of width `clip_dim` -> (B, 4, `token_dim`).

    Args:
        identity_dim: length of the identity vector, 512 for ArcFace, 128 for dlib.
        clip_dim: width of the CLIP hidden states, 1280 for ViT-H/14.
        token_dim: width of a token, the UNet's `cross_attention_dim`; a multiple of 64.
        shortcut: add the resampler's output to the projected identity (FaceID-Plus v2, Face-MakeUp), not replace it.
    """

    @register_to_config
    def __init__(self, identity_dim: int = 512, clip_dim: int = 1280, token_dim: int = 768, shortcut: bool = True):
        super().__init__()
        if token_dim % HEAD_DIM:
            raise ValueError(f"token_dim {token_dim} is no multiple of {HEAD_DIM}: stock diffusers would misread it")
        self.resampler = IPAdapterFaceIDPlusImageProjection(
            embed_dims=token_dim,
            output_dims=token_dim,
            hidden_dims=clip_dim,
            id_embeddings_dim=identity_dim,
            depth=DEPTH,
            dim_head=HEAD_DIM,
            heads=token_dim // HEAD_DIM,
            num_tokens=TOKENS,
            ffproj_ratio=HIDDEN_RATIO,
        )
        self.resampler.shortcut = shortcut

    def forward(self, identity: torch.Tensor, clip_features: torch.Tensor, shortcut_scale: float = 1.0) -> torch.Tensor:
        """(B, D) and (B, S, clip_dim) -> tokens (B, 4, token_dim), in the features' dtype.

        `shortcut_scale` weighs what CLIP adds to the identity; without the shortcut it has no effect.
        """
        # diffusers takes the features and the scale by attribute; they are reset after the call
        self.resampler.clip_embeds = clip_features.unsqueeze(1)
        self.resampler.shortcut_scale = shortcut_scale
        try:
            return self.resampler(identity)
        finally:
            self.resampler.clip_embeds = None
            self.resampler.shortcut_scale = 1.0

    def image_proj_state(self) -> dict[str, torch.Tensor]:
        """The weights under IP-Adapter's names (`image_proj` of a checkpoint); to_k and to_v are concatenated."""
        return to_authors({key.removeprefix("resampler."): value for key, value in self.state_dict().items()})

    def load_image_proj_state(self, state: Mapping[str, torch.Tensor], assign: bool = False) -> None:
        """Load `image_proj`. With `assign` each tensor keeps its own dtype.

        Raises:
            RuntimeError: keys or shapes differ, with their names (the message is torch's).
        """
        self.resampler.load_state_dict(from_authors(state), strict=True, assign=assign)


def to_authors(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """diffusers' names of the FaceID-Plus projection -> IP-Adapter's."""
    renamed = {}
    for key, value in state.items():
        if key.endswith("attn.to_k.weight"):
            partner = state[key.replace("to_k", "to_v")]
            renamed[_authors_name(key).replace("to_k", "to_kv")] = torch.cat([value, partner])
        elif not key.endswith("attn.to_v.weight"):
            renamed[_authors_name(key)] = value
    return renamed


def from_authors(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """IP-Adapter's names of the FaceID-Plus projection -> diffusers'; unknown names pass, for the loader to refuse."""
    renamed = {}
    for key, value in state.items():
        if key.endswith(".to_kv.weight"):
            name = _diffusers_name(key)
            renamed[name.replace("to_kv", "to_k")], renamed[name.replace("to_kv", "to_v")] = value.chunk(2)
        else:
            renamed[_diffusers_name(key)] = value
    return renamed


_OUTER = {"proj.net.0.proj": "proj.0", "proj.net.2": "proj.2"}
_BLOCK = {
    "ln0": "0.norm1",
    "ln1": "0.norm2",
    "attn.to_q": "0.to_q",
    "attn.to_k": "0.to_k",
    "attn.to_kv": "0.to_kv",
    "attn.to_out.0": "0.to_out",
    "ff.0": "1.0",
    "ff.1.net.0.proj": "1.1",
    "ff.1.net.2": "1.3",
}
_OUTER_OF = {authors: name for name, authors in _OUTER.items()}
_BLOCK_OF = {authors: name for name, authors in _BLOCK.items()}


def _authors_name(key: str) -> str:
    stem, _, kind = key.rpartition(".")
    if stem.startswith("layers."):
        _, number, part = stem.split(".", 2)
        return f"perceiver_resampler.layers.{number}.{_BLOCK[part]}.{kind}"
    if stem.startswith("proj.") or stem == "norm":
        return f"{_OUTER.get(stem, stem)}.{kind}"
    return f"perceiver_resampler.{key}"


def _diffusers_name(key: str) -> str:
    stem, _, kind = key.removeprefix("perceiver_resampler.").rpartition(".")
    if stem.startswith("layers."):
        _, number, part = stem.split(".", 2)
        return f"layers.{number}.{_BLOCK_OF.get(part, part)}.{kind}"
    return f"{_OUTER_OF.get(stem, stem)}.{kind}"
