"""The training loop. Everything that it calls is a function of the step, so it can be entered at any step."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.distributed as dist

from model.conditioning.identity import IdentityEncoder
from training.assembly import RunParts, assemble, device_of
from training.batches import loader
from training.checkpoint import Checkpoints
from training.collectives import host_group, hosts_and_pids, sum_on_hosts
from training.data.micro_batch import MicroBatch, can_pin
from training.engine import Trained, wrap
from training.export import export
from training.monitoring.held_out_panel import Evaluate, HeldOutPanel
from training.monitoring.metrics import Meter
from training.monitoring.outcomes import Outcomes, Watch
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
    """What the caller is told after each step. `step`: finished steps; `loss`: of the last step that was read, which is
    this one where it was logged or saved."""

    step: int
    steps: int
    loss: float | None


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
    hosts: dist.ProcessGroup | None


class Before(NamedTuple):
    """What the ranks tell each other before a step: slots with a sound sample, corrupt ones, the longest wait for data, in
    seconds, and the highest stop request of any rank."""

    valid: int
    corrupt: int
    waited: float
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
        stop_check: called on every rank before every step.
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
    step = saved_at = start.step
    log = RunLog(out, rank)
    log.write("started", step, world=world, **hosts_and_pids(), cached=parts.cache_notes)
    panel = (
        Panel(parts, recipe.monitoring.validation_samples, 4 * recipe.batch.micro)
        if recipe.monitoring.validation_samples
        else None
    )
    held_out = HeldOutPanel(parts, recipe.evaluation, evaluate) if evaluate and recipe.evaluation.every else None
    hosts = host_group(device)
    run = Run(recipe, parts, trained, checkpoints, log, identity_encoder, device, rank, world, hosts)
    facts = facts_of(recipe, parts)
    accumulation = parts.batches.accumulation
    watch = Watch(recipe, log, checkpoints, start.guard, start.corrupt, trained.fp16)
    outcomes, loss = Outcomes(device, accumulation * world), None
    feed = loader(
        parts.batches, step * accumulation, recipe.steps * accumulation, recipe.data.workers, recipe.data.prefetch,
        pin=can_pin(device),
    )  # fmt: skip
    if step == 0:
        _look(run, panel, held_out, step)
    meter = Meter(recipe, parts.config, device, world)

    def read() -> None:
        nonlocal loss
        for outcome in outcomes.read():
            watch.check(outcome)
            meter.took(outcome.loss, outcome.norm)
            loss = outcome.loss

    def save() -> None:
        nonlocal saved_at
        read()  # nothing is saved that has diverged
        stalled = checkpoints.save(trained, step, facts | watch.facts())
        log.write("checkpoint", step, stalled_seconds=stalled)
        saved_at = step

    with profiled(log.folder, recipe.monitoring.profile_steps, device) if rank == 0 else nullcontext() as trace:
        while step < recipe.steps:
            before = time.monotonic()
            micros = [next(feed) for _ in range(accumulation)]
            waited = time.monotonic() - before
            checkpoints.check()
            # what is asked for during a step is met after it
            told = _before_step(run, micros, waited, stop_check(step))
            if told.request and saved_at < step:
                save()
            if told.request == StopRequest.STOP:
                break
            total, norm = _step(run, micros, told.valid, step)
            step += 1
            outcomes.add(step, total, norm, micros)
            meter.step(told.waited)
            if trace is not None:
                trace.step()
            last = step == recipe.steps
            logs, saves = step % recipe.monitoring.log_every == 0 or last, step % recipe.saving.every == 0 or last
            # elsewhere a dropped update is the end of the run, so it is looked at now
            if logs or saves or (trained.dropped and not trained.fp16):
                read()
            watch.count_corrupt(micros, step, told.corrupt)
            if rank == 0 and logs:  # whose log it is; the others would count FLOPs for seconds
                log.write("train", step, **meter.line(step), **_skipped_updates(trained, step))
            if saves:
                save()
            with meter.aside():
                _look(
                    run,
                    panel if step % recipe.monitoring.validate_every == 0 or last else None,
                    held_out if step % (recipe.evaluation.every or 1) == 0 or last else None,
                    step,
                )
            on_step(Progress(step, recipe.steps, loss))
    checkpoints.wait()
    if step < recipe.steps:
        log.write("stopped", step)
    elif recipe.saving.export:
        export(recipe, parts, trained, log.folder, step)
    dist.barrier()
    log.close()
    parts.batches.shards.close()
    return step


def _before_step(run: Run, micros: list[MicroBatch], waited: float, request: StopRequest) -> Before:
    """The loss is divided by the valid slots. For the slowest loader all ranks wait here; the GPUs go on meanwhile."""
    waits, requests = [0.0] * run.world, [0.0] * run.world
    waits[run.rank], requests[run.rank] = waited, float(request)
    valid = sum(float(micro.valid.sum()) for micro in micros)
    corrupt = float(sum(len(micro.corrupt) for micro in micros))
    sums = sum_on_hosts([valid, corrupt, *waits, *requests], run.hosts)
    waits, requests = sums[2 : 2 + run.world], sums[2 + run.world :]
    return Before(int(sums[0]), int(sums[1]), max(waits), StopRequest(int(max(requests))))


def _skipped_updates(trained: Trained, step: int) -> dict[str, int]:
    return {"skipped_updates": step - trained.counts()["updates"]} if trained.fp16 else {}


def _step(run: Run, micros: list[MicroBatch], valid: int, step: int) -> tuple[torch.Tensor, torch.Tensor | float]:
    """One step over all its micro-batches, `valid` of whose slots (over all ranks) hold a sound sample: the sum of this
    rank's losses, and the gradient's norm. Nothing here asks the device for a value, but DeepSpeed for what it drops."""
    recipe, trained, encoders = run.recipe, run.trained, run.parts.encoders
    passes = len(micros) * run.world
    total = torch.zeros((), device=run.device)
    for micro in micros:
        inputs = encoders(micro)
        prediction = trained(*inputs.arguments())
        target = target_of(encoders.scheduler, inputs.latents, inputs.noise, inputs.timesteps)
        weights = min_snr_weights(encoders.scheduler, inputs.timesteps, recipe.objective.min_snr_gamma)
        loss = share_of_step(losses(prediction, target), weights, inputs.valid, valid, passes)
        trained.engine.backward(loss)
        total += loss.detach()
        if len(micros) > 1 and micro is not micros[-1]:
            trained.engine.step()  # DeepSpeed counts micro-batches in it; it updates at the last one only
    return total, trained.step(step, recipe.optimiser.lr_at(step, recipe.steps))


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
