"""What is checked before anything is started: in seconds, without a model, a GPU or Ray."""

from __future__ import annotations

import os
from pathlib import Path

from common.cluster.environment import inside_job
from common.paths import is_utf8, require_writable_place
from training.data.index import read_index
from training.recipe import RecipeError, TrainRecipe


def require_shared_shards(place: str) -> None:
    """Is the folder of the shards one that means the same on every node of a cluster?

    Raises:
        RecipeError: no.
    """
    if "://" not in place and not Path(place).is_absolute():
        raise RecipeError(
            f"data.shards is {place}: on a cluster it must mean the same on every node: an absolute path on shared "
            "storage, or s3://bucket/..."
        )


def check_ranks(recipe: TrainRecipe, ranks: int) -> None:
    """Are the shards there, and can that many ranks see their order?

    Raises:
        RecipeError, ShardError: no, and what would do.
    """
    if inside_job():
        require_shared_shards(recipe.data.shards)
    samples = read_index(recipe.data.shards, recipe.data.shard_cache).samples
    try:
        recipe.batch.check_layout(ranks, samples)
    except ValueError as error:
        raise RecipeError(f"{ranks} ranks: {error}") from error


def resolved_out(out: str, on_cluster: bool = False) -> str:
    """The run's folder as an absolute path; a URL as it is. `on_cluster`: it is a cluster's job that writes there.

    Raises:
        RecipeError: a relative path for a job: it would be inside the job's own copy of the code, and go with it; a
            path that is no text.
        PathError: a place that nothing is written to.
    """
    if not is_utf8(out):
        raise RecipeError(
            f"--out {out!a}: safetensors and TensorBoard write only where a path is UTF-8: take another name"
        )
    require_writable_place(out)
    if "://" in out:
        return out
    if (on_cluster or inside_job()) and not Path(out).is_absolute():
        raise RecipeError(
            f"--out {out}: on a cluster it must mean the same on every node: an absolute path on shared storage, or "
            "s3://bucket/..."
        )
    return str(Path(out).resolve())


def require_writable(out: str) -> None:
    """Before the minutes that a base or the models may take: can the run's folder be written?

    Raises:
        RecipeError: no, and where.
    """
    if "://" in out:
        return
    place = Path(out)
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise RecipeError(f"--out {out}: {place} is a file: take another path")
    # a file system that invents its files, such as /proc, is "writable" too, and is told by the first file
    if not os.access(place, os.W_OK):
        raise RecipeError(f"--out {out}: {place} is read-only, or you have no permission there: take another path")


def for_export(recipe: TrainRecipe, out: str) -> TrainRecipe:
    """The recipe of a run whose newest checkpoint is its end: no step is left, the export is.

    Raises:
        RecipeError: there is no checkpoint.
    """
    from training.checkpoint import CheckpointFault, Checkpoints

    try:
        saved = Checkpoints(out, rank=0, world=1, keep=1).all()
    except CheckpointFault as error:
        raise RecipeError(str(error)) from error
    if not saved:
        raise RecipeError(f"--export: no checkpoint in {out}/checkpoints; is --out the folder of a run?")
    saving = recipe.saving.model_copy(update={"export": True})
    return recipe.model_copy(update={"steps": saved[-1].step, "saving": saving})
