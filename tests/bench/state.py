"""What training has to keep: in memory on each rank, and in a checkpoint; and how long the step waits for it."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import torch

from tests.bench.duel import Bench, seconds
from tests.bench.ranks import in_ranks
from training.assembly import assemble
from training.checkpoint import Checkpoints
from training.engine import Trained, wrap
from training.recipe import TrainRecipe


def _engine(recipe: TrainRecipe, rank: int, world: int) -> Trained:
    return wrap(assemble(recipe, rank, world, torch.device("cpu")).model, recipe, world)


def _trained(trained: Trained) -> int:
    """Parameters; of one that is divided, DeepSpeed knows the whole."""
    return sum(getattr(parameter, "ds_numel", parameter.numel()) for parameter in trained.parameters.values())


def held(recipe: TrainRecipe, rank: int, world: int) -> tuple[int, int]:
    """(bytes of masters, moments and EMA on this rank, trained parameters of all)."""
    trained = _engine(recipe, rank, world)
    tensors = [shard.data for shard in trained._shards()]
    for state in trained._base.state.values():
        tensors += [value for value in state.values() if isinstance(value, torch.Tensor)]
    # memory that is taken, not what is looked at of it
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values()), _trained(trained)


def saving(recipe: TrainRecipe, rank: int, world: int, out: str, rounds: int) -> dict[str, Any]:
    """Bytes of a checkpoint; median seconds that the step waits for it, of all its writing, and of torch.save."""
    trained = _engine(recipe, rank, world)
    checkpoints = Checkpoints(out, rank, world, keep=1)
    tensors = {f"{key}/{name}": trained.full(name, key) for name in trained.parameters for key in trained.keys()}
    facts = {"recipe": recipe.model_dump(mode="json"), "frozen": "", "shards": ""}
    told: dict[str, list[float]] = {"stall": [], "whole": [], "plain": []}
    for step in range(1, rounds + 2):
        started = time.perf_counter()
        checkpoints.save(trained, step, facts)
        stalled = time.perf_counter() - started
        checkpoints.wait()
        whole = time.perf_counter() - started
        plain = seconds(lambda: torch.save(tensors, Path(out) / "plain.pt"))
        for name, value in (("stall", stalled), ("whole", whole), ("plain", plain)):
            told[name].append(value)
    (newest,) = (Path(out) / "checkpoints").iterdir()
    size = sum(file.stat().st_size for file in newest.iterdir())
    return {
        "bytes": size,
        "trained": _trained(trained),
        **{name: statistics.median(values[1:]) for name, values in told.items()},
    }


def bench_memory(bench: Bench, recipe: TrainRecipe, stages: tuple[int, ...] = (0, 1, 2, 3), world: int = 2) -> None:
    """ZeRO (Rajbhandari et al. 2020, arXiv 1910.02054), table 1: K bytes a parameter, from stage 1 on K / ranks."""
    a_parameter = 16 if recipe.saving.ema else 12
    for stage in stages:
        engine = recipe.engine.model_copy(update={"zero": stage})
        answers = in_ranks(held, recipe.model_copy(update={"engine": engine}), world)
        most, trained = max(answer[0] for answer in answers), answers[0][1]
        formula = a_parameter * trained / (world if stage else 1)
        bench.row(
            f"masters, moments, EMA on each of {world} ranks, ZeRO-{stage}", f"{most / 1e6:.2f} MB",
            f"{a_parameter} bytes x {trained:,}{f' / {world}' if stage else ''}", f"{formula / 1e6:.2f} MB",
            most / formula, least=0.98, most=1.02, shown=f"{most / formula:.4f}",
        )  # fmt: skip


def bench_checkpoints(bench: Bench, recipe: TrainRecipe, out: str, rounds: int) -> None:
    for ema, a_parameter in ((recipe.saving.ema, 16), (None, 12)):
        given = recipe.model_copy(update={"saving": recipe.saving.model_copy(update={"ema": ema})})
        told = in_ranks(saving, given, 1, f"{out}/{a_parameter}", rounds)[0]
        least = a_parameter * told["trained"]
        bench.row(
            f"a checkpoint {'with' if ema else 'without'} EMA", f"{told['bytes'] / 1e6:.2f} MB",
            f"{a_parameter} bytes a trained parameter", f"{least / 1e6:.2f} MB", told["bytes"] / least,
            most=1.02, shown=f"{told['bytes'] / least:.4f}",
        )  # fmt: skip
        if ema:
            stall = f"{told['stall'] * 1000:.1f} ms"
            for beside, other in (("its whole writing", "whole"), ("torch.save of the same tensors", "plain")):
                bench.row(
                    "a step's wait for a checkpoint", stall, beside, f"{told[other] * 1000:.0f} ms",
                    told["stall"] / told[other], shown=f"{told['stall'] / told[other]:.3f}",
                )  # fmt: skip
