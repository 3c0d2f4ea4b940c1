"""The planner's inputs: what was given, what the shards and the recipe say, and what is left to be assumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from training.data.folder import ShardError
from training.data.index import read_index
from training.planning.assumptions import Assumptions, PlanError
from training.planning.flops import GPUS, peak_flops_of_name
from training.recipe import TrainRecipe


@dataclass
class Inputs:
    """`assumed`: the names of the numbers that nobody gave and that neither shards nor recipe tell."""

    given: Assumptions
    assumed: list[str]
    notes: list[str]


def inputs_for(
    recipe: TrainRecipe, gpu: str, peak_tflops: float | None, mfu: str, options: Mapping[str, Any]
) -> Inputs:
    """The numbers to plan with.

    Args:
        gpu: a known GPU's name, or cpu.
        peak_tflops: dense peak of one GPU; None: of the known GPU.
        mfu: shares of the peak, such as "0.30,0.40".
        options: fields of `Assumptions`; None where nobody gave one.

    Raises:
        PlanError: a number that cannot be, or a GPU that is not known.
    """
    values = {name: value for name, value in options.items() if value is not None}
    notes = []
    if not {"samples", "sample_bytes"} <= values.keys():
        of_shards, note = _facts_of_shards(recipe)
        notes.append(note)
        values = of_shards | values
    try:
        values["utilisation"] = tuple(float(share) for share in mfu.split(","))
    except ValueError:
        raise PlanError(f"--mfu {mfu}: write shares of the peak, e.g. 0.30,0.40") from None
    values["peak"] = _peak(gpu, peak_tflops, recipe.engine.dtype)
    values.setdefault("cores", max(1, recipe.data.workers))
    if gpu.lower() == "cpu":
        values.setdefault("gpus", 1)
    default = Assumptions()
    given = replace(default, **values)
    known = {"peak", "gpus", "cores"} | ({"samples", "sample_bytes"} & values.keys())
    names = [each.name for each in fields(Assumptions) if each.name not in known]
    assumed = [name for name in names if getattr(given, name) == getattr(default, name)]
    try:
        recipe.batch.check_layout(given.gpus, given.samples)
    except ValueError as error:
        notes.append(f"Training will refuse this recipe on {given.gpus} GPUs: {error}")
    return Inputs(given, assumed, notes)


def _facts_of_shards(recipe: TrainRecipe) -> tuple[dict[str, Any], str]:
    """`samples` and `sample_bytes` of the recipe's shards, if they can be read, and a note that says so."""
    data = recipe.data
    try:
        index = read_index(data.shards, data.shard_cache)
    except (ShardError, OSError, ImportError) as error:
        why = str(error).splitlines()[0]
        if "://" not in data.shards and not Path(data.shards).exists():
            why = f"no {data.shards} here"
        return {}, f"Samples and their bytes are assumed: the shards cannot be read ({why})."
    size = float(index.bytes.sum()) / index.samples
    return {"samples": index.samples, "sample_bytes": size}, (
        f"{index.samples:,} samples of {size / 1e3:.0f} kB in {len(index)} shards of {data.shards}."
    )


def _peak(gpu: str, peak_tflops: float | None, dtype: str) -> float | None:
    """FLOP/s of one GPU; None for a CPU without a given peak."""
    if peak_tflops is not None:
        return peak_tflops * 1e12
    if gpu.lower() == "cpu":
        return None
    known = GPUS.get(gpu.lower())
    peak = getattr(known, dtype) if known else peak_flops_of_name(gpu, dtype)
    if known and peak is None:
        raise PlanError(f"--gpu {gpu} has no {dtype}: set engine.dtype=fp16, or give --peak-tflops")
    if peak is None:
        raise PlanError(
            f"--gpu {gpu} is not known; take one of {', '.join(GPUS)}, or give the dense peak of one GPU in {dtype} "
            "with --peak-tflops (make plan-train PEAK_TFLOPS=...)"
        )
    return peak
