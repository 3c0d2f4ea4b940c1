"""The recipe's identity encoder (model/conditioning/identity.py), its files found and checked."""

from __future__ import annotations

from typing import Literal

from common.weights import resolve
from curation.recipe.recipe import Recipe
from model.conditioning.identity import ArcFace, Dlib, IdentityEncoder


def build_encoder(recipe: Recipe) -> IdentityEncoder | None:
    """The recipe's encoder; None for `identity: none`.

    Raises:
        WeightError: a model file is missing, with where to get it.
    """
    if recipe.annotate.identity == "none":
        return None
    return encoder(recipe.annotate.identity, recipe.annotate.channel_order, recipe.weights)


def encoder(
    name: Literal["dlib", "arcface"],
    channel_order: Literal["bgr", "rgb"] = "bgr",
    folder: str | None = None,
    device: Literal["cpu", "gpu"] = "cpu",
) -> IdentityEncoder:
    """An encoder by name; `folder`: model files, looked in first. The other two are ArcFace's: dlib takes RGB, on a CPU.

    Raises:
        WeightError: a model file is missing, with where to get it.
    """
    if name == "dlib":
        return Dlib(resolve("dlib-resnet", folder).path, resolve("dlib-5-landmarks", folder).path)
    return ArcFace(resolve("arcface-w600k-r50", folder).path, channel_order, device)
