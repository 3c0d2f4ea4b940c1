"""The training loop. Everything that it calls is a function of the step, so it can be entered at any step."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

from model.conditioning.identity import IdentityEncoder
from training.assembly import RunParts, assemble, device_of
from training.batches import loader
from training.checkpoint import Checkpoints, Saved
from training.collectives import gather_lists, hosts_and_pids, sum_over_ranks
from training.data.micro_batch import MicroBatch
from training.engine import Trained, wrap
from training.export import export
from training.guards import Diverged, LossSpikeGuard, TooManyCorrupt, is_not_finite, too_many_corrupt
from training.monitoring.held_out_panel import Evaluate, HeldOutPanel
from training.monitoring.metrics import Meter
from training.monitoring.profiling import profiled
from training.monitoring.run_log import RunLog
from training.monitoring.run_page import write_page
from training.monitoring.validation import Panel
from training.objective import losses, min_snr_weights, share_of_step, target_of
from training.recipe import TrainRecipe
from training.resume import facts_of, newest, resume
from training.stop_request import StopCheck, StopRequest


@dataclass
class Progress:
    """What the caller is told after each step. `step`: finished steps."""

    step: int
    steps: int
    loss: float


@dataclass
class Run:
    """What every step of a rank works with."""

    recipe: TrainRecipe
    parts: RunParts
    trained: Trained
    checkpoints: Checkpoints
    log: RunLog
    identity_encoder: IdentityEncoder | None
    device: torch.device
    rank: int
    world: int


class Slots(NamedTuple):
    """Of one step, over all ranks: slots with a sound sample, corrupt ones, and the longest wait for data, in seconds."""

    valid: int
    corrupt: int
    waited: float


class StepResult(NamedTuple):
    """Of one step, over all ranks: loss, gradient norm before clipping, and the highest stop request of any rank."""

    loss: float
    norm: float
    request: StopRequest


def train(
    recipe: TrainRecipe,
    out: str,
    rank: int,
    world: int,
    local_rank: int,
    stop_check: StopCheck = lambda step: StopRequest.NONE,
    on_step: Callable[[Progress], None] = lambda progress: None,
    identity_encoder: IdentityEncoder | None = None,
    evaluate: Evaluate | None = None,
) -> int:
    """Train to the recipe's last step, or until `stop_check` says STOP on any rank. Returns the finished steps.

    torch.distributed is initialised. All ranks save at the same step before they return.

    Args:
        out: the run's folder; any filesystem that all ranks see.
        stop_check: called on every rank after every step.
        on_step: called on every rank after every step.
        identity_encoder: measures how alike the faces drawn for validation are; only rank 0's is used.
        evaluate: measures what is drawn from held-out photos (`recipe.evaluation`); called on rank 0.

    Raises:
        Diverged, TooManyCorrupt: the run itself went wrong.
        RecipeError, CheckpointFault, ShardError, EngineError, ValueError: as `assemble`, `wrap` and `resume`.
    """
    device = device_of(recipe, local_rank)
    checkpoints = Checkpoints(out, rank, world, recipe.saving.keep)
    saved = newest(checkpoints)
    parts = assemble(recipe, rank, world, device, saved and saved.manifest["read"])
    parts.model.to(device)
    trained = wrap(parts.model, recipe, world)
    start = resume(recipe, parts, trained, checkpoints, saved)
    step, guard, corrupt = start.step, start.guard, start.corrupt
    log = RunLog(out, rank)
    log.write("started", step, world=world, **hosts_and_pids(), cached=parts.cache_notes)
    panel = (
        Panel(parts, recipe.monitoring.validation_samples, 4 * recipe.batch.micro)
        if recipe.monitoring.validation_samples
        else None
    )
    held_out = HeldOutPanel(parts, recipe.evaluation, evaluate) if evaluate and recipe.evaluation.every else None
    run = Run(recipe, parts, trained, checkpoints, log, identity_encoder, device, rank, world)
    facts = facts_of(recipe, parts)
    accumulation = parts.batches.accumulation
    feed = loader(
        parts.batches, step * accumulation, recipe.steps * accumulation, recipe.data.workers, recipe.data.prefetch,
        pin=device.type == "cuda",
    )  # fmt: skip
    if step == 0:
        _look(run, panel, held_out, step)
    meter = Meter(recipe, parts.config, device, world)
    with profiled(log.folder, recipe.monitoring.profile_steps, device) if rank == 0 else nullcontext() as trace:
        while step < recipe.steps:
            before = time.monotonic()
            micros = [next(feed) for _ in range(accumulation)]
            waited = time.monotonic() - before
            checkpoints.check()
            slots = _count_slots(run, micros, waited)
            result = _step(run, micros, slots.valid, step, stop_check)
            step += 1
            if rank == 0:  # whose log it is; the others would count FLOPs for seconds
                meter.step(slots.waited, result.loss, result.norm)
            if trace is not None:
                trace.step()
            if is_not_finite(result.loss, result.norm, trained.fp16):
                _stop_not_finite(run, micros, step, result)
            corrupt += slots.corrupt
            _report_corrupt(run, micros, step, slots.corrupt, corrupt)
            last = step == recipe.steps
            if rank == 0 and (step % recipe.monitoring.log_every == 0 or last):
                log.write("train", step, **meter.line(step), **_skipped_updates(trained, step))
            if guard.has_spiked(step, result.loss):
                _stop_spiked(run, micros, step, guard)
            ends = last or result.request == StopRequest.STOP
            if step % recipe.saving.every == 0 or ends or result.request == StopRequest.SAVE:
                stalled = checkpoints.save(trained, step, facts | guard.facts() | {"corrupt": corrupt})
                log.write("checkpoint", step, stalled_seconds=stalled)
            with meter.aside():
                _look(
                    run,
                    panel if step % recipe.monitoring.validate_every == 0 or last else None,
                    held_out if step % (recipe.evaluation.every or 1) == 0 or last else None,
                    step,
                )
            on_step(Progress(step, recipe.steps, result.loss))
            if ends:
                break
    checkpoints.wait()
    if step < recipe.steps:
        log.write("stopped", step)
    elif recipe.saving.export:
        export(recipe, parts, trained, log.folder, step)
    dist.barrier()
    log.close()
    parts.batches.shards.close()
    return step


def _count_slots(run: Run, micros: list[MicroBatch], waited: float) -> Slots:
    """Before the step, whose loss is divided by the valid ones. For the slowest loader all ranks wait here."""
    waits = [0.0] * run.world
    waits[run.rank] = waited
    valid = sum(float(micro.valid.sum()) for micro in micros)
    corrupt = float(sum(len(micro.corrupt) for micro in micros))
    sums = sum_over_ranks(torch.tensor([valid, corrupt, *waits]), run.device).tolist()
    return Slots(int(sums[0]), int(sums[1]), max(sums[2:]))


def _skipped_updates(trained: Trained, step: int) -> dict[str, int]:
    return {"skipped_updates": step - trained.counts()["updates"]} if trained.fp16 else {}


def _step(run: Run, micros: list[MicroBatch], valid: int, step: int, stop_check: StopCheck) -> StepResult:
    """One step over all its micro-batches, `valid` of whose slots (over all ranks) hold a sound sample."""
    recipe, trained, encoders, device = run.recipe, run.trained, run.parts.encoders, run.device
    passes = len(micros) * run.world
    total = torch.zeros((), device=device)
    for micro in micros:
        inputs = encoders(micro)
        prediction = trained(*inputs.arguments())
        target = target_of(encoders.scheduler, inputs.latents, inputs.noise, inputs.timesteps)
        weights = min_snr_weights(encoders.scheduler, inputs.timesteps, recipe.objective.min_snr_gamma)
        loss = share_of_step(losses(prediction, target), weights, micro.valid.to(device), valid, passes)
        trained.engine.backward(loss)
        total += loss.detach()
        if len(micros) > 1 and micro is not micros[-1]:
            trained.engine.step()  # DeepSpeed counts micro-batches in it; it updates at the last one only
    norm = trained.step(step, recipe.optimiser.lr_at(step, recipe.steps))
    # the check comes last: a request that arrives during the step is met after it
    request = stop_check(step + 1)
    flags = [total, total.new_tensor(request == StopRequest.SAVE), total.new_tensor(request == StopRequest.STOP)]
    loss, saves, stops = sum_over_ranks(torch.stack(flags), device).tolist()
    highest = StopRequest.STOP if stops else StopRequest.SAVE if saves else StopRequest.NONE
    return StepResult(loss / passes, norm, highest)


def _stop_not_finite(run: Run, micros: list[MicroBatch], step: int, result: StepResult) -> None:
    ids, saved = _log_diverged(run, micros, step, loss=str(result.loss), grad_norm=str(result.norm))
    raise Diverged(
        f"step {step}: loss {result.loss}, gradient norm {result.norm}. Its samples: {ids}. Last good "
        f"checkpoint: {saved[-1].folder if saved else 'none'}. Lower optimiser.lr, or set engine.dtype to fp32, and start "
        "again"
    )


def _stop_spiked(run: Run, micros: list[MicroBatch], step: int, guard: LossSpikeGuard) -> None:
    ids, saved = _log_diverged(run, micros, step, **guard.facts())
    good = [each.folder for each in saved if each.step <= guard.at]
    raise Diverged(
        f"step {step}: the mean loss of the last steps is more than {guard.factor:g} times what it was at step "
        f"{guard.at} ({guard.lowest:.4g}). Samples of the last step: {ids}. Last checkpoint from before: "
        f"{good[-1] if good else 'none is left; keep more with saving.keep'}. Remove the later ones, lower optimiser.lr "
        "and start again; or raise monitoring.loss_spike_factor, if this is as it should be"
    )


def _log_diverged(run: Run, micros: list[MicroBatch], step: int, **facts: Any) -> tuple[str, list[Saved]]:
    """The ids of the step's samples on all ranks, and the checkpoints that are there."""
    ids = gather_lists([name for micro in micros for name in micro.ids])
    run.log.write("diverged", step, **facts, ids=ids)
    run.checkpoints.wait()
    return ", ".join(ids), run.checkpoints.all()


def _report_corrupt(run: Run, micros: list[MicroBatch], step: int, now: int, so_far: int) -> None:
    """Write down which samples were corrupt; stop if they are too many.

    `now`, `so_far`: counted over all ranks, so that either all of them gather or none does.
    """
    if not now:
        return
    problems = gather_lists([problem for micro in micros for problem in micro.corrupt])
    for name, why in problems:
        run.log.write("corrupt", step, id=name, why=why)
    samples = step * run.recipe.batch.size
    if too_many_corrupt(so_far, samples, run.recipe.data.corrupt_share):
        raise TooManyCorrupt(
            f"{so_far} of {samples} samples are corrupt, more than data.corrupt_share ({run.recipe.data.corrupt_share}): "
            f"e.g. {problems[0]}; see log.jsonl"
        )


def _look(run: Run, panel: Panel | None, held_out: HeldOutPanel | None, step: int) -> None:
    """What is due of validation and evaluation, and the page of the run."""
    if panel:
        _validate(run, panel, step)
    if held_out:
        _evaluate(run, held_out, step)
    if run.log.folder is not None and (panel or held_out):
        write_page(run.log.folder, run.recipe)


def _evaluate(run: Run, held_out: HeldOutPanel, step: int) -> None:
    """Write down what the evaluation says of drawings from the photos that are held out, and the drawings."""
    model = run.trained.module.eval()
    if run.rank == 0 or run.recipe.engine.zero == 3:  # as in _validate
        drawn = held_out.drawn(run.parts.pipeline, run.recipe.evaluation.inference_steps)
        if run.rank == 0:
            run.log.picture("held-out", step, held_out.picture(drawn))
            if row := held_out.row(drawn):
                run.log.write("evaluation", step, **row)
    model.train()


def _validate(run: Run, panel: Panel, step: int) -> None:
    """Write down the panel's fixed-noise losses, what each condition is worth, the grid and how alike its faces are."""
    model = run.trained.module.eval()
    values, worth = panel.losses(model), panel.worth(model)
    row = {f"worth_{name}": share for name, share in worth.items()}
    # under stage 3 every forward is a collective call: all ranks draw, rank 0 keeps
    if run.rank == 0 or run.recipe.engine.zero == 3:
        drawn = panel.drawn(run.parts.pipeline, run.recipe.monitoring.inference_steps)
        if run.rank == 0:
            run.log.picture("panel", step, panel.picture(drawn))
            if run.identity_encoder is not None:
                likeness = panel.alikeness(drawn, run.identity_encoder)
                row |= {f"likeness_{name}": value for name, value in likeness.items()}
    run.log.write("validation", step, loss=sum(values) / len(values), by_timestep=values, **row)
    model.train()
