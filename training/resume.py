"""Going on with a run: from which checkpoint, and whether it is the same run."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch.distributed as dist

from training.assembly import Parts
from training.checkpoint import CheckpointFault, Checkpoints, Saved
from training.engine import Trained
from training.metrics import Collapse
from training.recipe import RecipeError, TrainRecipe


class Begun(NamedTuple):
    """Where a run is: finished steps, what its losses were like, and how many samples were corrupt so far."""

    step: int
    collapse: Collapse
    corrupt: int


def newest(checkpoints: Checkpoints) -> Saved | None:
    """The checkpoint that all ranks go on from. A collective call: rank 0 looks, since a listing that another node keeps
    for a minute may be of before.

    Raises:
        CheckpointFault: the ranks do not see the same folder, or the checkpoint is of an earlier version.
    """
    checkpoints.claim()
    chosen: list[Saved | None] = [None]
    if checkpoints.rank == 0:
        checkpoints.clear_unfinished()
        chosen = checkpoints.all()[-1:] or [None]
    dist.broadcast_object_list(chosen)
    if chosen[0] and "read" not in chosen[0].manifest:
        raise CheckpointFault(
            f"{chosen[0].folder}: of an earlier version of this trainer, which noted less of its run: train into another "
            "folder, with start_from"
        )
    return chosen[0]


def facts_of(recipe: TrainRecipe, parts: Parts) -> dict[str, Any]:
    """What a manifest says of its run."""
    return {
        "recipe": recipe.model_dump(mode="json"),
        "config": parts.config.model_dump(mode="json"),
        "frozen": parts.frozen,
        "shards": parts.index.hash,
        "read": parts.read,
    }


def resume(recipe: TrainRecipe, parts: Parts, trained: Trained, checkpoints: Checkpoints, saved: Saved | None) -> Begun:
    """Put `saved` into the engine; None: a run begins.

    Raises:
        RecipeError: it would not be the same run, or the ranks do not read the same.
        CheckpointFault: it is damaged, or of another model.
    """
    everywhere: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everywhere, parts.read)
    if any(read != parts.read for read in everywhere):
        raise RecipeError(
            f"data.cached: what can be read of the cache is not the same on all ranks: {everywhere}. Is it being written, "
            "or on a folder that not all nodes see? Start again when it is whole, or set data.cached to off"
        )
    if saved is None:
        return Begun(0, Collapse(recipe.seeing.collapse), 0)
    manifest = saved.manifest
    told, before, now = TrainRecipe.model_validate(manifest["recipe"]), manifest["config"], facts_of(recipe, parts)
    for name, was, is_now in (
        ("seed", told.seed, recipe.seed),
        ("batch.size", told.batch.size, recipe.batch.size),
        ("batch.lanes", told.batch.lanes, recipe.batch.lanes),
        ("batch.window", told.batch.window, recipe.batch.window),
        ("the shards", manifest["shards"], parts.index.hash),
        *((f"the frozen {part}", manifest["frozen"][part], weights) for part, weights in parts.frozen.items()),
        *(
            (f"the model's {name}", before.get(name), value)
            for name, value in now["config"].items()
            if name not in ("name", "pretrained")
        ),
        *((f"what is read of the cache ({kind})", manifest["read"][kind], name) for kind, name in parts.read.items()),
    ):
        if was != is_now:
            raise RecipeError(
                f"{saved.folder}: this run was begun with {name} {was}, now it is {is_now}: it would not be the same run. "
                "Set it back, or train into another folder (with start_from, if you like)"
            )
    checkpoints.restore(trained, saved)
    return Begun(
        saved.step,
        Collapse(recipe.seeing.collapse, manifest["lowest_loss"], manifest["lowest_loss_at"]),
        manifest["corrupt"],
    )
