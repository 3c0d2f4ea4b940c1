"""The loop. Everything that it calls is a function of the step, so it can be entered at any."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

from model.conditioning.identity import IdentityEncoder
from training.assembly import Parts, assemble, device_of
from training.checkpoint import Checkpoints
from training.data.batches import MicroBatch, loader
from training.engine import Trained, wrap
from training.export import export
from training.launch.process import Ask, crew
from training.metrics import Collapse, Meter
from training.objective import losses, min_snr_weights, share_of_step, target_of
from training.profiling import profiled
from training.recipe import TrainRecipe
from training.resume import facts_of, newest, resume
from training.run_log import Records
from training.validation import Panel


class Diverged(RuntimeError):
    """The loss is no number, or has left where it was; the message has the step, the samples and what to go back to."""


class TooManyCorrupt(RuntimeError):
    """More corrupt samples than the recipe allows."""


@dataclass
class Progress:
    """What the caller sees after each step. `losses` of all steps so far are not kept."""

    step: int
    steps: int
    loss: float
    ids: list[str] = field(default_factory=list)


class Slots(NamedTuple):
    """Of one step, over all ranks: slots with a sound sample, corrupt ones, and the longest wait for data, in seconds."""

    valid: int
    corrupt: int
    waited: float


class Done(NamedTuple):
    """A step, over all ranks: its loss, the gradient's norm before clipping, and the most that any rank was asked."""

    loss: float
    norm: float
    asked: Ask


def train(
    recipe: TrainRecipe,
    out: str,
    rank: int,
    world: int,
    local_rank: int,
    stop: Callable[[int], Ask] = lambda step: Ask.NOTHING,
    seen: Callable[[Progress], None] = lambda progress: None,
    recogniser: IdentityEncoder | None = None,
) -> int:
    """Train to the recipe's last step, or until `stop(finished steps)` is STOP on any rank; the finished steps.

    torch.distributed is initialised. All ranks save at the same step before they return. `recogniser`: of the
    panel's drawn faces; rank 0's is used.
    """
    device = device_of(recipe, local_rank)
    checkpoints = Checkpoints(out, rank, world, recipe.saving.keep)
    saved = newest(checkpoints)
    parts = assemble(recipe, rank, world, device, saved and saved.manifest["read"])
    parts.model.to(device)
    trained = wrap(parts.model, recipe, world)
    step, collapse, corrupt = resume(recipe, parts, trained, checkpoints, saved)
    records = Records(out, rank)
    records.write("started", step, world=world, **crew(world), cached=parts.cached)
    panel = Panel(parts, recipe.seeing.panel, 4 * recipe.batch.micro) if recipe.seeing.panel else None
    facts = facts_of(recipe, parts)
    accumulation = parts.batches.accumulation
    feed = loader(
        parts.batches, step * accumulation, recipe.steps * accumulation, recipe.data.workers, recipe.data.prefetch,
        pin=device.type == "cuda",
    )  # fmt: skip
    if step == 0 and panel:
        _validate(recipe, parts, trained, panel, records, step, rank, recogniser)
    meter = Meter(recipe, parts.config, device, world)
    with profiled(records.folder, recipe.seeing.profile, device) if rank == 0 else nullcontext() as trace:
        while step < recipe.steps:
            before = time.monotonic()
            micros = [next(feed) for _ in range(accumulation)]
            waited = time.monotonic() - before
            checkpoints.check()
            slots = _counted(micros, waited, device, rank, world)
            done = _step(recipe, parts, trained, micros, slots.valid, device, world, step, stop)
            step += 1
            meter.step(slots.waited, done.loss, done.norm)
            if trace is not None:
                trace.step()
            # fp16 skips such an update and halves its scale; anywhere else it would be skipped, or written, in silence
            if not math.isfinite(done.loss) or not (math.isfinite(done.norm) or trained.fp16):
                _diverged(micros, step, done, records, checkpoints)
            corrupt += slots.corrupt
            _report_corrupt(recipe, micros, records, step, slots.corrupt, corrupt)
            last = step == recipe.steps
            if step % recipe.seeing.log_every == 0 or last:
                records.write("train", step, **meter.line(step), **_skipped(trained, step))
            if collapse.seen(step, done.loss):
                _collapsed(micros, step, collapse, records, checkpoints)
            ends = last or done.asked == Ask.STOP
            if step % recipe.saving.every == 0 or ends or done.asked == Ask.SAVE:
                stalled = checkpoints.save(trained, step, facts | collapse.facts() | {"corrupt": corrupt})
                records.write("checkpoint", step, stalled_seconds=stalled)
            if panel and (step % recipe.seeing.validate_every == 0 or last):
                with meter.aside():
                    _validate(recipe, parts, trained, panel, records, step, rank, recogniser)
            seen(Progress(step, recipe.steps, done.loss, [name for micro in micros for name in micro.ids]))
            if ends:
                break
    checkpoints.wait()
    if step < recipe.steps:
        records.write("stopped", step)
    elif recipe.saving.export:
        export(recipe, parts, trained, records.folder, step)
    dist.barrier()
    records.close()
    parts.batches.shards.close()
    return step


def _counted(micros: list[MicroBatch], waited: float, device: torch.device, rank: int, world: int) -> Slots:
    """Before the step, whose loss is divided by it. For the slowest loader all ranks wait here."""
    waits = [0.0] * world
    waits[rank] = waited
    valid = sum(float(micro.valid.sum()) for micro in micros)
    corrupt = float(sum(len(micro.corrupt) for micro in micros))
    told = _summed(torch.tensor([valid, corrupt, *waits]), device).tolist()
    return Slots(int(told[0]), int(told[1]), max(told[2:]))


def _skipped(trained: Trained, step: int) -> dict[str, int]:
    return {"skipped_updates": step - trained.counts()["updates"]} if trained.fp16 else {}


def _step(
    recipe: TrainRecipe,
    parts: Parts,
    trained: Trained,
    micros: list[MicroBatch],
    valid: int,
    device: torch.device,
    world: int,
    step: int,
    stop: Callable[[int], Ask],
) -> Done:
    """One step over all its micro-batches, `valid` of whose slots hold a sound sample."""
    total = torch.zeros((), device=device)
    for micro in micros:
        inputs = parts.encoders(micro)
        prediction = trained(*inputs.arguments())
        target = target_of(parts.encoders.scheduler, inputs.latents, inputs.noise, inputs.timesteps)
        weights = min_snr_weights(parts.encoders.scheduler, inputs.timesteps, recipe.objective.min_snr_gamma)
        loss = share_of_step(losses(prediction, target), weights, micro.valid.to(device), valid, len(micros) * world)
        trained.engine.backward(loss)
        total += loss.detach()
        if len(micros) > 1 and micro is not micros[-1]:
            trained.engine.step()  # DeepSpeed counts micro-batches in it; it updates at the last one only
    norm = trained.step(step, recipe.optimiser.rate_at(step, recipe.steps))
    # what is asked, last: who is asked during the step saves after it
    asked = stop(step + 1)
    told = torch.stack([total, total.new_tensor(asked == Ask.SAVE), total.new_tensor(asked == Ask.STOP)])
    loss, saves, stops = _summed(told, device).tolist()
    return Done(loss / (len(micros) * world), norm, Ask.STOP if stops else Ask.SAVE if saves else Ask.NOTHING)


def _diverged(micros: list[MicroBatch], step: int, done: Done, records: Records, checkpoints: Checkpoints) -> None:
    ids = _ids_of_all(micros)
    records.write("diverged", step, loss=str(done.loss), grad_norm=str(done.norm), ids=ids)
    checkpoints.wait()
    good = checkpoints.all()
    raise Diverged(
        f"step {step}: loss {done.loss}, gradient norm {done.norm}. Its samples: {', '.join(ids)}. Last good checkpoint: "
        f"{good[-1].folder if good else 'none'}. Lower optimiser.rate, or set engine.dtype to fp32, and start again"
    )


def _collapsed(
    micros: list[MicroBatch], step: int, collapse: Collapse, records: Records, checkpoints: Checkpoints
) -> None:
    ids = _ids_of_all(micros)
    records.write("diverged", step, **collapse.facts(), ids=ids)
    checkpoints.wait()
    good = [saved.folder for saved in checkpoints.all() if saved.step <= collapse.at]
    raise Diverged(
        f"step {step}: the mean loss of the last steps is more than {collapse.factor:g} times what it was at step "
        f"{collapse.at} ({collapse.lowest:.4g}). Samples of the last step: {', '.join(ids)}. Last checkpoint from before: "
        f"{good[-1] if good else 'none is left; keep more with saving.keep'}. Remove the later ones, lower optimiser.rate "
        "and start again; or raise seeing.collapse, if this is as it should be"
    )


def _ids_of_all(micros: list[MicroBatch]) -> list[str]:
    return _of_all([name for micro in micros for name in micro.ids])


def _of_all(mine: list[Any]) -> list[Any]:
    """Every rank's, by rank; a collective call, for what is rare."""
    everywhere: list[list[Any]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(everywhere, mine)
    return [item for items in everywhere for item in items]


def _report_corrupt(
    recipe: TrainRecipe, micros: list[MicroBatch], records: Records, step: int, now: int, so_far: int
) -> None:
    """Write down what was corrupt; `now`, `so_far`: counted over all ranks, so that all come here or none."""
    if not now:
        return
    problems = _of_all([problem for micro in micros for problem in micro.corrupt])
    for name, why in problems:
        records.write("corrupt", step, id=name, why=why)
    seen = step * recipe.batch.size
    if too_many(so_far, seen, recipe.data.corrupt_share):
        raise TooManyCorrupt(
            f"{so_far} of {seen} samples are corrupt, more than data.corrupt_share ({recipe.data.corrupt_share}): "
            f"e.g. {problems[0]}; see log.jsonl"
        )


def too_many(corrupt: int, seen: int, share: float) -> bool:
    """Is the true share above `share`, beyond what chance (four deviations of a Poisson count) puts among the first?"""
    expected = share * seen
    return corrupt > max(1.0, expected + 4 * expected**0.5)


def _validate(
    recipe: TrainRecipe,
    parts: Parts,
    trained: Trained,
    panel: Panel,
    records: Records,
    step: int,
    rank: int,
    recogniser: IdentityEncoder | None,
) -> None:
    """Fixed-noise losses, what each condition is worth, the grid and how alike its faces are."""
    model = trained.module.eval()
    values, worth = panel.losses(model), panel.worth(model)
    told = {f"worth_{name}": share for name, share in worth.items()}
    # under stage 3 every forward is a collective call: all ranks draw, rank 0 keeps
    if rank == 0 or recipe.engine.zero == 3:
        drawn = panel.drawn(parts.pipeline, recipe.seeing.drawing_steps)
        if rank == 0:
            records.picture("panel", step, panel.picture(drawn))
            if recogniser is not None:
                told |= {f"likeness_{name}": value for name, value in panel.alikeness(drawn, recogniser).items()}
    records.write("validation", step, loss=sum(values) / len(values), by_timestep=values, **told)
    model.train()


def _summed(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Over all ranks."""
    tensor = values.to(device, torch.float64 if device.type == "cpu" else torch.float32)
    dist.all_reduce(tensor)
    return tensor
