"""Resuming a run: from which checkpoint, and whether it is the same run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from training.assembly import RunParts
from training.checkpoint import CheckpointFault, Checkpoints, Manifest, Saved
from training.collectives import from_rank_0, gather
from training.engine import Trained
from training.guards import LossSpikeGuard
from training.recipe import RecipeError, TrainRecipe, with_current_names


@dataclass
class Start:
    """Where a run starts or goes on: finished steps, the guard of its losses, corrupt samples so far."""

    step: int
    guard: LossSpikeGuard
    corrupt: int


def newest(checkpoints: Checkpoints) -> Saved | None:
    """The checkpoint that all ranks go on from; None: there is none. A collective call.

    Rank 0 looks for all, since a listing that another node keeps for a minute may be out of date.

    Raises:
        CheckpointFault: the ranks do not see the same folder, or the checkpoint is of an earlier version.
    """
    checkpoints.claim()
    saved = None
    if checkpoints.rank == 0:
        checkpoints.clear_unfinished()
        whole = checkpoints.all()
        saved = whole[-1] if whole else None
    saved = from_rank_0(saved)
    if saved and "read" not in saved.manifest:
        raise CheckpointFault(
            f"{saved.folder}: of an earlier version of this trainer, which noted less of its run: train into another "
            "folder, with start_from"
        )
    return saved


def facts_of(recipe: TrainRecipe, parts: RunParts) -> dict[str, Any]:
    """What a manifest says of its run."""
    return {
        "recipe": recipe.model_dump(mode="json"),
        "config": parts.config.model_dump(mode="json"),
        "frozen": parts.frozen,
        "shards": parts.index.hash,
        "read": parts.cache_folders,
    }


def resume(
    recipe: TrainRecipe, parts: RunParts, trained: Trained, checkpoints: Checkpoints, saved: Saved | None
) -> Start:
    """Put `saved` into the engine; None: a run begins. A collective call.

    Raises:
        RecipeError: it would not be the same run, or the ranks do not read the same.
        CheckpointFault: it is damaged, or of another model.
    """
    everywhere = gather(parts.cache_folders)
    if any(read != parts.cache_folders for read in everywhere):
        raise RecipeError(
            f"data.encoder_cache: what can be read of the cache is not the same on all ranks: {everywhere}. Is it being written, "
            "or on a folder that not all nodes see? Start again when it is whole, or set data.encoder_cache to off"
        )
    if saved is None:
        return Start(0, LossSpikeGuard(recipe.monitoring.loss_spike_factor), 0)
    manifest = saved.manifest
    for name, before, now in _must_be_equal(manifest, recipe, parts):
        if before != now:
            raise RecipeError(
                f"{saved.folder}: this run was begun with {name} {before}, now it is {now}: it would not be the same run. "
                "Set it back, or train into another folder (with start_from, if you like)"
            )
    checkpoints.restore(trained, saved)
    guard = LossSpikeGuard(recipe.monitoring.loss_spike_factor, manifest["lowest_loss"], manifest["lowest_loss_at"])
    return Start(saved.step, guard, manifest["corrupt"])


def _must_be_equal(manifest: Manifest, recipe: TrainRecipe, parts: RunParts) -> list[tuple[str, Any, Any]]:
    """What makes a run the same run: (what it is called, its value when the run began, its value now)."""
    begun = TrainRecipe.model_validate(with_current_names(manifest["recipe"]))
    rows = [
        ("seed", begun.seed, recipe.seed),
        ("batch.size", begun.batch.size, recipe.batch.size),
        ("batch.lanes", begun.batch.lanes, recipe.batch.lanes),
        ("batch.window", begun.batch.window, recipe.batch.window),
        ("the shards", manifest["shards"], parts.index.hash),
        ("evaluation.references", begun.evaluation.references, recipe.evaluation.references),
        ("evaluation.other_photos", begun.evaluation.other_photos, recipe.evaluation.other_photos),
    ]
    rows += [(f"the frozen {part}", manifest["frozen"][part], weights) for part, weights in parts.frozen.items()]
    for name, value in parts.config.model_dump(mode="json").items():
        if name not in ("name", "pretrained"):
            rows.append((f"the model's {name}", manifest["config"].get(name), value))
    for kind, folder in parts.cache_folders.items():
        rows.append((f"what is read of the cache ({kind})", manifest["read"][kind], folder))
    return rows
