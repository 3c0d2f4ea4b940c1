"""What the steps of a run came to: it stays on the device until somebody reads it, and may then end the run."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from training.checkpoint import Checkpoints, Saved
from training.collectives import gather_lists, sum_over_ranks
from training.data.micro_batch import MicroBatch
from training.guards import Diverged, LossSpikeGuard, TooManyCorrupt, is_not_finite, too_many_corrupt
from training.monitoring.run_log import RunLog
from training.recipe import TrainRecipe


class Outcome(NamedTuple):
    """Of one step, over all ranks: loss, and gradient norm before clipping. `step`: finished steps; `ids`: of this
    rank's samples."""

    step: int
    loss: float
    norm: float
    ids: list[str]


class Outcomes:
    """Losses and norms of the steps since they were last read: reading waits for the device, a step must not.

    Args:
        passes: micro-batches of a step over all ranks.
    """

    def __init__(self, device: torch.device, passes: int):
        self.device, self.passes = device, passes
        self._steps: list[tuple[int, list[str]]] = []
        self._losses: list[torch.Tensor] = []
        self._norms: list[torch.Tensor] = []

    def add(self, step: int, loss: torch.Tensor, norm: torch.Tensor | float, micros: list[MicroBatch]) -> None:
        """`loss`: this rank's sum over its micro-batches, on the device; `norm`: a number where nothing was updated."""
        self._steps.append((step, [name for micro in micros for name in micro.ids]))
        self._losses.append(loss)
        self._norms.append(norm if isinstance(norm, torch.Tensor) else torch.full_like(loss, norm))

    def read(self) -> list[Outcome]:
        """Of the steps since the last call, in order; these are forgotten. A collective call, and one wait."""
        if not self._steps:
            return []
        sums = sum_over_ranks(torch.stack(self._losses), self.device)
        losses, norms = torch.stack([sums, torch.stack(self._norms).to(sums)]).tolist()
        outcomes = [
            Outcome(step, loss / self.passes, norm, ids)
            for (step, ids), loss, norm in zip(self._steps, losses, norms, strict=True)
        ]
        self._steps, self._losses, self._norms = [], [], []
        return outcomes


class Watch:
    """Ends a run that has gone wrong, with the samples and the checkpoint to go back to. On all ranks alike."""

    def __init__(
        self,
        recipe: TrainRecipe,
        log: RunLog,
        checkpoints: Checkpoints,
        guard: LossSpikeGuard,
        corrupt: int,
        fp16: bool,
    ):
        self.recipe, self.log, self.checkpoints, self.guard, self.corrupt = recipe, log, checkpoints, guard, corrupt
        self.fp16 = fp16

    def facts(self) -> dict[str, Any]:
        """What a checkpoint's manifest says of it."""
        return self.guard.facts() | {"corrupt": self.corrupt}

    def check(self, outcome: Outcome) -> None:
        """Is this step's outcome one that a run may go on from? A collective call.

        Raises:
            Diverged: no.
        """
        step, loss, norm, names = outcome
        if is_not_finite(loss, norm, self.fp16):
            ids, saved = self._log_diverged(step, names, loss=str(loss), grad_norm=str(norm))
            raise Diverged(
                f"step {step}: loss {loss}, gradient norm {norm}. Its samples: {ids}. Last good checkpoint: "
                f"{saved[-1].folder if saved else 'none'}. Lower optimiser.lr, or set engine.dtype to fp32, and start again"
            )
        guard = self.guard
        if guard.has_spiked(step, loss):
            ids, saved = self._log_diverged(step, names, **guard.facts())
            good = [each.folder for each in saved if each.step <= guard.at]
            raise Diverged(
                f"step {step}: the mean loss of the last steps is more than {guard.factor:g} times what it was at step "
                f"{guard.at} ({guard.lowest:.4g}). Samples of the last step: {ids}. Last checkpoint from before: "
                f"{good[-1] if good else 'none is left; keep more with saving.keep'}. Remove the later ones, lower "
                "optimiser.lr and start again; or raise monitoring.loss_spike_factor, if this is as it should be"
            )

    def _log_diverged(self, step: int, names: list[str], **facts: Any) -> tuple[str, list[Saved]]:
        """The ids of the step's samples on all ranks, and the checkpoints that are there."""
        ids = gather_lists(names)
        self.log.write("diverged", step, **facts, ids=ids)
        self.checkpoints.wait()
        return ", ".join(ids), self.checkpoints.all()

    def count_corrupt(self, micros: list[MicroBatch], step: int, now: int) -> None:
        """Write down which samples were corrupt; stop if they are too many.

        `now`: counted over all ranks, so that either all of them gather or none does.

        Raises:
            TooManyCorrupt: they are.
        """
        self.corrupt += now
        if not now:
            return
        problems = gather_lists([problem for micro in micros for problem in micro.corrupt])
        for name, why in problems:
            self.log.write("corrupt", step, id=name, why=why)
        samples, share = step * self.recipe.batch.size, self.recipe.data.corrupt_share
        if too_many_corrupt(self.corrupt, samples, share):
            raise TooManyCorrupt(
                f"{self.corrupt} of {samples} samples are corrupt, more than data.corrupt_share ({share}): "
                f"e.g. {problems[0]}; see log.jsonl"
            )
