"""The identity encoder that a recipe names."""

from __future__ import annotations

from curation.recipe.recipe import Recipe
from model.conditioning.identity import IdentityEncoder, open_encoder


def build_encoder(recipe: Recipe) -> IdentityEncoder | None:
    """The recipe's encoder, its model files found and checked; None for `identity: none`.

    Raises:
        WeightError: a model file is missing, with where to get it.
    """
    if recipe.annotate.identity == "none":
        return None
    return open_encoder(recipe.annotate.identity, recipe.annotate.channel_order, recipe.weights)
