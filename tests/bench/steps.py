"""The trainer's whole step beside a bare loop of PyTorch over the same model and the same batches."""

from __future__ import annotations

import itertools
import statistics
import time

import torch

from tests.bench.duel import Bench
from tests.bench.ranks import in_ranks
from training.assembly import assemble
from training.batches import MicroBatch
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
            self.trained, lr=options.rate, betas=options.betas, eps=options.eps, weight_decay=options.weight_decay
        )

    def step(self, micro: MicroBatch) -> float:
        self.optimiser.zero_grad()
        encoders = self.parts.encoders
        inputs = encoders(micro)
        target = target_of(encoders.scheduler, inputs.latents, inputs.noise, inputs.timesteps)
        weights = min_snr_weights(encoders.scheduler, inputs.timesteps, self.recipe.objective.min_snr_gamma)
        loss = (losses(self.parts.model(*inputs.arguments()), target) * weights).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained, self.recipe.optimiser.clip)
        self.optimiser.step()
        return loss.item()


def both(recipe: TrainRecipe, rank: int, world: int, out: str) -> tuple[float, float]:
    """Median seconds of a step of the trainer and of the bare loop, which takes its turn after each of them."""
    import training.trainer as trainer

    bare = Bare(recipe)
    prepared = [bare.parts.batches[number] for number in range(2)]
    # reading is measured elsewhere: both sides have their batches already
    trainer.loader = lambda *_, **__: itertools.cycle(prepared)
    ours, theirs, turn = [], [], itertools.cycle(prepared)
    ended = [time.perf_counter()]

    def seen(_) -> None:
        ours.append(time.perf_counter() - ended[0])
        started = time.perf_counter()
        bare.step(next(turn))
        ended[0] = time.perf_counter()
        theirs.append(ended[0] - started)

    trainer.train(recipe, out, rank, world, rank, seen=seen)
    # the last one saves
    return statistics.median(ours[WARM:-1]), statistics.median(theirs[WARM:-1])


def bench_steps(bench: Bench, recipe: TrainRecipe, out: str, stages: tuple[int, ...] = (0, 1, 2, 3)) -> None:
    for stage in stages:
        engine = recipe.engine.model_copy(update={"zero": stage})
        ours, theirs = in_ranks(both, recipe.model_copy(update={"engine": engine}), 1, f"{out}/zero-{stage}")[0]
        bench.row(
            f"a whole step, ZeRO-{stage}, {recipe.batch.size} samples", f"{ours:.3f} s", "bare PyTorch",
            f"{theirs:.3f} s", ours / theirs, most=1.10 if stage == 0 else None,
        )  # fmt: skip
