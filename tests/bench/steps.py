"""The trainer's whole step beside a bare loop of PyTorch over the same model and the same batches."""

from __future__ import annotations

import itertools
import time

import torch

from tests.bench.duel import Bench, medians
from tests.bench.ranks import in_ranks
from training.assembly import assemble
from training.data.micro_batch import MicroBatch
from training.objective import losses, min_snr_weights, target_of
from training.recipe import TrainRecipe

WARM = 2  # steps that do not count


class Bare:
    """What one would write without a trainer: no engine, no EMA, no log."""

    def __init__(self, recipe: TrainRecipe):
        self.recipe, self.parts = recipe, assemble(recipe, 0, 1, torch.device("cpu"))
        self.trained = [parameter for _, parameter in self.parts.model.trainable()]
        options = recipe.optimiser
        self.optimiser = torch.optim.AdamW(
            self.trained, lr=options.lr, betas=options.betas, eps=options.eps, weight_decay=options.weight_decay
        )

    def step(self, micro: MicroBatch) -> float:
        self.optimiser.zero_grad()
        encoders = self.parts.encoders
        inputs = encoders(micro)
        target = target_of(encoders.scheduler, inputs.latents, inputs.noise, inputs.timesteps)
        weights = min_snr_weights(encoders.scheduler, inputs.timesteps, self.recipe.objective.min_snr_gamma)
        loss = (losses(self.parts.model(*inputs.arguments()), target) * weights).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained, self.recipe.optimiser.max_grad_norm)
        self.optimiser.step()
        return loss.item()


def _clocks() -> tuple[float, float]:
    return time.process_time(), time.perf_counter()


def both(recipe: TrainRecipe, rank: int, world: int, out: str) -> list[tuple[float, float]]:
    """Median seconds of a step of the trainer and of the bare loop, which takes its turn after each of them: first of
    the core, then by the clock."""
    import training.trainer as trainer

    bare = Bare(recipe)
    prepared = [bare.parts.batches[number] for number in range(2)]
    # reading is measured elsewhere: both sides have their batches already
    trainer.loader = lambda *_, **__: itertools.cycle(prepared)
    ours, theirs, turn = [], [], itertools.cycle(prepared)
    ended = [_clocks()]

    def on_step(_) -> None:
        started = _clocks()
        bare.step(next(turn))
        now = _clocks()
        ours.append([at - before for at, before in zip(started, ended[0], strict=True)])
        theirs.append([at - before for at, before in zip(now, started, strict=True)])
        ended[0] = _clocks()

    trainer.train(recipe, out, rank, world, rank, on_step=on_step)
    # the last one saves
    counted = slice(WARM, -1)
    return [
        medians(zip(*pair, strict=True))
        for pair in zip(_by_clock(ours[counted]), _by_clock(theirs[counted]), strict=True)
    ]


def _by_clock(rows: list[list[float]]) -> list[tuple[float, ...]]:
    return list(zip(*rows, strict=True))


def bench_steps(bench: Bench, recipe: TrainRecipe, out: str, stages: tuple[int, ...] = (0, 1, 2, 3)) -> None:
    for stage in stages:
        engine = recipe.engine.model_copy(update={"zero": stage})
        changed = recipe.model_copy(update={"engine": engine})
        (ours, theirs), clock = in_ranks(both, changed, 1, f"{out}/zero-{stage}")[0]
        # one process without anything to wait for; the clock also counts what neighbours take
        bench.row(
            f"a whole step, ZeRO-{stage}, {recipe.batch.size} samples", f"{ours:.2f} core s", "bare PyTorch",
            f"{theirs:.2f} core s", ours / theirs, most=1.10 if stage == 0 else None,
            shown=f"{ours / theirs:.2f} (by the clock {clock[0] / clock[1]:.2f})",
        )  # fmt: skip
