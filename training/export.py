"""Exports what a run has trained, in the layouts that other programs load."""

from __future__ import annotations

from pathlib import Path

import torch

from common.progress import say
from model.build import trained_parts
from model.checkpoints.on_model import checkpoint_of
from model.checkpoints.writing import write
from model.finder_files import carry_finder
from training.assembly import RunParts, open_pipeline
from training.engine import Trained
from training.recipe import TrainRecipe


def export(recipe: TrainRecipe, parts: RunParts, trained: Trained, out: Path | None, step: int) -> None:
    """Write OUT/export/{face-makeup.safetensors, diffusers/, pipeline/}, of the EMA where there is one. All ranks call it.

    `out` is None on the ranks that only give their share. The weights are fp32: what training holds.
    """
    key = "ema" if trained.decay else "master"
    values = {}
    for name in trained.parameters:
        full = trained.full(name, key)
        if out is not None:
            values[name] = full.to("cpu", copy=True)
    if out is None:
        return
    # a model of its own: under ZeRO-3 the engine's parameters are in pieces
    pipeline = open_pipeline(recipe, parts.config)
    model = trained_parts(pipeline)
    with torch.no_grad():
        for name, parameter in model.trainable():
            parameter.copy_(values[name])
    folder = out / "export"
    checkpoint = checkpoint_of(
        model,
        layout="facemakeup",
        steps=str(step),
        weights=key,
        recipe=recipe.name,
        base=_base_name(str(recipe.base or parts.config.pretrained.base)),
        conditions=parts.config.conditions.model_dump_json(),
        identity_encoder=parts.index.encoder,
    )
    folder.mkdir(parents=True, exist_ok=True)
    write(checkpoint, folder / "face-makeup.safetensors", "facemakeup", force=True)
    write(checkpoint, folder / "diffusers", "diffusers", base=_local_base(recipe), force=True)
    pipeline.save_pretrained(folder / "pipeline")
    for note in carry_finder(folder / "pipeline", parts.config.conditions):
        say("train", note)


def _base_name(base: str) -> str:
    """A hub name as it is; of a folder only its name: what is exported holds no path of this machine."""
    return Path(base).resolve().name if Path(base).is_dir() else base


def _local_base(recipe: TrainRecipe) -> Path | None:
    return Path(recipe.base) if recipe.base and Path(recipe.base).is_dir() else None
