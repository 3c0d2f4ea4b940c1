"""The loop. Everything that it calls is a function of the step, so it can be entered at any."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist

from training.assembly import Parts, assemble, device_of, output
from training.batches import MicroBatch, loader
from training.checkpoint import Checkpoints
from training.engine import Trained, wrap
from training.export import export
from training.objective import losses, min_snr_weights, share_of_step, target_of
from training.recipe import TrainRecipe
from training.records import Records
from training.validation import Panel


class Diverged(RuntimeError):
    """The loss or a gradient is no number; the message has the step, the samples and the last good checkpoint."""


class TooManyCorrupt(RuntimeError):
    """More corrupt samples than the recipe allows."""


@dataclass
class Progress:
    """What the caller sees after each step. `losses` of all steps so far are not kept."""

    step: int
    steps: int
    loss: float
    ids: list[str] = field(default_factory=list)


@dataclass
class Clock:
    """Seconds of a span of steps: waiting for data, and all."""

    started: float = field(default_factory=time.monotonic)
    waited: float = 0.0
    steps: int = 0
    losses: list[torch.Tensor] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)


def train(
    recipe: TrainRecipe,
    out: str,
    rank: int,
    world: int,
    local_rank: int,
    stop: Callable[[int], bool] = lambda step: False,
    seen: Callable[[Progress], None] = lambda progress: None,
) -> int:
    """Train to the recipe's last step, or until `stop(finished steps)` is true on any rank; the finished steps.

    torch.distributed is initialised. All ranks save at the same step before they return.
    """
    device = device_of(recipe, local_rank)
    parts = assemble(recipe, rank, world, device)
    parts.model.to(device)
    trained = wrap(parts.model, recipe, world)
    checkpoints = Checkpoints(out, rank, world, recipe.saving.keep)
    step = _resume(recipe, parts, trained, checkpoints)
    records = Records(output(out), rank)
    panel = Panel(parts, recipe.seeing.panel) if recipe.seeing.panel else None
    facts = {"recipe": recipe.model_dump(mode="json"), "frozen": parts.frozen, "shards": parts.index.hash}
    accumulation, clock, corrupt = parts.batches.accumulation, Clock(), 0
    feed = loader(
        parts.batches, step * accumulation, recipe.steps * accumulation, recipe.data.workers, recipe.data.prefetch,
        pin=device.type == "cuda",
    )  # fmt: skip
    if step == 0 and panel:
        _validate(recipe, parts, trained, panel, records, step, rank)
    while step < recipe.steps:
        before = time.monotonic()
        micros = [next(feed) for _ in range(accumulation)]
        clock.waited += time.monotonic() - before
        loss, norm = _step(recipe, parts, trained, micros, device, world, step, records, checkpoints)
        step += 1
        clock.steps += 1
        clock.losses.append(loss)
        clock.norms.append(norm)
        corrupt += _report_corrupt(recipe, micros, records, step, world, device, corrupt)
        last = step == recipe.steps
        if step % recipe.seeing.log_every == 0 or last:
            clock = _log(recipe, records, clock, step, device)
        ends = last or _anywhere(stop(step), device)
        if step % recipe.saving.every == 0 or ends:
            stalled = checkpoints.save(trained, step, facts)
            records.write("checkpoint", step, stalled_seconds=stalled)
        if panel and (step % recipe.seeing.validate_every == 0 or last):
            _validate(recipe, parts, trained, panel, records, step, rank)
        seen(Progress(step, recipe.steps, float(loss), [name for micro in micros for name in micro.ids]))
        if ends:
            break
    checkpoints.wait()
    if step == recipe.steps and recipe.saving.export:
        export(recipe, parts, trained, output(out) if rank == 0 else None, step)
    dist.barrier()
    records.close()
    parts.shards.close()
    return step


def _resume(recipe: TrainRecipe, parts: Parts, trained: Trained, checkpoints: Checkpoints) -> int:
    """Go on from the newest checkpoint; its step, 0 without one."""
    if checkpoints.rank == 0:
        checkpoints.clear_unfinished()
    dist.barrier()
    whole = checkpoints.all()
    if not whole:
        return 0
    newest = whole[-1]
    told = TrainRecipe.model_validate(newest.manifest["recipe"])
    for name, was, now in (
        ("seed", told.seed, recipe.seed),
        ("batch.size", told.batch.size, recipe.batch.size),
        ("batch.lanes", told.batch.lanes, recipe.batch.lanes),
        ("batch.window", told.batch.window, recipe.batch.window),
        ("the frozen UNet", newest.manifest["frozen"], parts.frozen),
        ("the shards", newest.manifest["shards"], parts.index.hash),
    ):
        if was != now:
            raise ValueError(
                f"{newest.folder}: this run was begun with {name} {was}, now it is {now}: it would not be the same run. "
                "Set it back, or train into another folder (with start_from, if you like)"
            )
    checkpoints.restore(trained, newest)
    return newest.step


def _step(
    recipe: TrainRecipe,
    parts: Parts,
    trained: Trained,
    micros: list[MicroBatch],
    device: torch.device,
    world: int,
    step: int,
    records: Records,
    checkpoints: Checkpoints,
) -> tuple[torch.Tensor, float]:
    """One step over all its micro-batches; its loss, and the gradient's norm before clipping, the same on all ranks."""
    valid = _summed(sum(float(micro.valid.sum()) for micro in micros), device)
    total = torch.zeros((), device=device)
    for micro in micros:
        inputs = parts.encoders(micro)
        prediction = trained.engine(*inputs.arguments())
        target = target_of(parts.encoders.scheduler, inputs.latents, inputs.noise, inputs.timesteps)
        weights = min_snr_weights(parts.encoders.scheduler, inputs.timesteps, recipe.objective.min_snr_gamma)
        loss = share_of_step(
            losses(prediction, target), weights, micro.valid.to(device), int(valid), len(micros) * world
        )
        trained.engine.backward(loss)
        total += loss.detach()
        if len(micros) > 1 and micro is not micros[-1]:
            trained.engine.step()  # DeepSpeed counts micro-batches in it; it updates at the last one only
    norm = trained.step(recipe.optimiser.rate_at(step, recipe.steps))
    mean = _summed(total, device) / (len(micros) * world)
    if not torch.isfinite(mean):
        _diverged(micros, step, float(mean), norm, records, checkpoints)
    return mean, norm


def _diverged(
    micros: list[MicroBatch], step: int, loss: float, norm: float, records: Records, checkpoints: Checkpoints
) -> None:
    ids = [name for micro in micros for name in micro.ids]
    records.write("diverged", step, loss=str(loss), grad_norm=str(norm), ids=ids)
    good = checkpoints.all()
    raise Diverged(
        f"step {step}: loss {loss}, gradient norm {norm}. Samples of this rank: {', '.join(ids)}. Last good checkpoint: "
        f"{good[-1].folder if good else 'none'}. Lower optimiser.rate, or set engine.dtype to fp32, and start again"
    )


def _report_corrupt(
    recipe: TrainRecipe,
    micros: list[MicroBatch],
    records: Records,
    step: int,
    world: int,
    device: torch.device,
    before: int,
) -> int:
    """Write down what was corrupt on this rank and count it over all."""
    mine = [problem for micro in micros for problem in micro.corrupt]
    for name, why in mine:
        records.write("corrupt", step, id=name, why=why)
    everywhere = int(_summed(float(len(mine)), device))
    share = (before + everywhere) / (step * recipe.batch.size)
    if everywhere and before + everywhere > 1 and share > recipe.data.corrupt_share:
        raise TooManyCorrupt(
            f"{before + everywhere} of {step * recipe.batch.size} samples are corrupt, more than data.corrupt_share "
            f"({recipe.data.corrupt_share}): e.g. {mine[0] if mine else 'on another rank'}; see log.jsonl"
        )
    return everywhere


def _log(recipe: TrainRecipe, records: Records, clock: Clock, step: int, device: torch.device) -> Clock:
    seconds = time.monotonic() - clock.started
    # of the device on a GPU, else of the process: the most so far
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _peak_memory()
    records.write(
        "train",
        step,
        loss=float(torch.stack(clock.losses).mean()),
        rate=recipe.optimiser.rate_at(step - 1, recipe.steps),
        images_per_second=clock.steps * recipe.batch.size / seconds,
        data_wait=clock.waited / seconds,
        grad_norm=sum(clock.norms) / len(clock.norms),
        peak_memory_gb=peak / 1e9,
    )
    return Clock()


def _peak_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _validate(
    recipe: TrainRecipe, parts: Parts, trained: Trained, panel: Panel, records: Records, step: int, rank: int
) -> None:
    """Fixed-noise losses on every rank (stage 3 gathers in them); the grid on rank 0, where it has whole weights."""
    model = trained.module.eval()
    values = panel.losses(model)
    records.write("validation", step, loss=sum(values) / len(values), by_timestep=values)
    if rank == 0 and recipe.engine.zero < 3:
        records.picture("panel", step, panel.picture(parts.pipeline, recipe.seeing.drawing_steps))
    model.train()


def _summed(value: Any, device: torch.device) -> torch.Tensor:
    tensor = torch.as_tensor(value, device=device, dtype=torch.float64 if device.type == "cpu" else torch.float32)
    dist.all_reduce(tensor)
    return tensor


def _anywhere(flag: bool, device: torch.device) -> bool:
    return bool(_summed(float(flag), device) > 0)
