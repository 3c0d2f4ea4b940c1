"""Which encoder caches a run reads, and why not where it reads none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from training.data.encodings import KINDS
from training.data.index import ShardIndex
from training.data.shards import Shards
from training.encoder_cache.reading import (
    STORED,
    CacheUnusable,
    EncodedShards,
    FrozenEncoders,
    folder_name,
    open_encoder_cache,
)
from training.recipe import RecipeError, TrainRecipe


@dataclass
class EncoderCaches:
    """`shards`: the shards with what is cached of them; by kind `notes`: what is read, or why it is computed; and
    `folders`: the name of the folder that is read, None for what is computed."""

    shards: Shards | EncodedShards
    notes: dict[str, str]
    folders: dict[str, str | None]


def open_caches(
    recipe: TrainRecipe, encoders: FrozenEncoders, shards: Shards, before: Mapping[str, str | None] | None = None
) -> EncoderCaches:
    """Open what the recipe allows and what is there.

    `before`: the folders of the run that goes on. What is stored in half precision is not quite what would be computed,
    so a cache that was made meanwhile is not taken up in the middle of a run, and one that was read must be there.

    Raises:
        RecipeError: the recipe requires what is not there, or not whole, or stale; or the run has read it so far.
    """
    mode, cache = recipe.data.encoder_cache, recipe.data.shard_cache
    folders: dict[str, str | None] = dict.fromkeys(KINDS)
    if mode == "off":
        return EncoderCaches(shards, dict.fromkeys(KINDS, "off"), folders)
    opened: dict[str, tuple[ShardIndex, str]] = {}
    notes: dict[str, str] = {}
    goes_on = mode == "auto" and before is not None
    for kind in KINDS:
        if goes_on and before[kind] is None:
            notes[kind] = "computed: as when this run was begun"
            continue
        facts = encoders.facts(kind, recipe.engine.dtype)
        try:
            index, stored, name = _open_kind(shards.index, facts, before[kind] if goes_on else None, cache)
        except CacheUnusable as error:
            notes[kind] = f"computed: {error}"
            required = mode == "require-both" or (mode == "require" and kind == "vae")
            if required or (before is not None and before[kind]):
                reason = f"data.encoder_cache is {mode}" if required else "this run has read its cache so far"
                raise RecipeError(
                    f"{reason}, but the {KINDS[kind].words} of this model and these shards cannot be had: {error}. "
                    f"`make cache RECIPE=... WHAT={kind}` with this recipe makes what is missing; "
                    "data.encoder_cache=auto trains without" + ("" if required else ", in another folder")
                ) from error
            continue
        opened[kind] = index, stored
        notes[kind], folders[kind] = f"read from cached/{name}, {stored}", name
    if not opened:
        return EncoderCaches(shards, notes, folders)
    shapes = {kind: encoders.shape(kind) for kind in opened}
    beside = EncodedShards.beside(shards.index, opened, shapes, cache, recipe.data.shard_cache_bytes)
    return EncoderCaches(beside, notes, folders)


def _open_kind(
    index: ShardIndex, facts: Mapping[str, Any], only: str | None, cache: str | None
) -> tuple[ShardIndex, str, str]:
    """The index of one kind's values, the dtype that they are stored in, and the folder's name: the exact one first.

    `only`: the one folder that may be read.

    Raises:
        CacheUnusable: none can be; of several reasons one that is not that nobody has begun it.
    """
    errors = []
    for stored in STORED:
        name = folder_name(facts, stored)
        if only is not None and name != only:
            continue
        try:
            return open_encoder_cache(index, name, cache), stored, name
        except CacheUnusable as error:
            errors.append(error)
    if not errors:
        raise CacheUnusable(f"cached/{only}, of this run, is of other encoders or another view", absent=False)
    raise next((error for error in errors if not error.absent), errors[0])
