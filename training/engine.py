"""DeepSpeed around the model: one engine, fp32 masters that can be asked for by name, EMA beside the moments.

Whatever the ZeRO stage, `Trained` gives and takes the full fp32 tensors of each trained parameter: `master`, `exp_avg`,
`exp_avg_sq`, `ema`. They are gathered one parameter at a time, so a checkpoint does not know how many ranks there were.
deepspeed is imported inside functions: on a driver without it, or without a compiler, this module still loads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from common.errors import UserError
from model.facemakeup import FaceMakeUp
from training.recipe import TrainRecipe

MOMENTS = ("exp_avg", "exp_avg_sq")
LOSS_SCALE = ("cur_scale", "cur_iter", "last_overflow_iter", "cur_hysteresis")  # DeepSpeed's names of its state


class EngineError(UserError, RuntimeError):
    """The engine is not what the recipe asked for; the message says what to change."""


def deepspeed_config(recipe: TrainRecipe, world: int) -> dict[str, Any]:
    """DeepSpeed's own configuration. What it would choose by itself and matters is written out."""
    engine, batch = recipe.engine, recipe.batch
    # DeepSpeed would keep what is used again within 1e9 numbers: all of this model, from its forward pass to its backward
    # one; and at each of its modules it would look through all that come after
    zero: dict[str, Any] = {"stage": engine.zero, "stage3_max_reuse_distance": 0}
    offload = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    if engine.offload_optimiser:
        zero["offload_optimizer"] = offload
    if engine.offload_parameters:
        zero["offload_param"] = offload
    config: dict[str, Any] = {
        "train_batch_size": batch.size,
        "train_micro_batch_size_per_gpu": batch.micro,
        "gradient_accumulation_steps": batch.accumulation(world),
        "gradient_clipping": recipe.optimiser.max_grad_norm,  # DeepSpeed's default is 1.0
        "zero_optimization": zero,
        "zero_force_ds_cpu_optimizer": False,
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 10**9,
    }
    if engine.dtype == "bf16":
        config["bf16"] = {"enabled": True}
    if engine.dtype == "fp16":
        config["fp16"] = {"enabled": True, "initial_scale_power": 16}
    return config


class Trained:
    """The engine and what is trained in it, by name. `dropped`: DeepSpeed did not make the last update, since the gradient
    was not finite; it says so on the host, where it has looked anyway."""

    def __init__(self, engine: Any, stage: int, names: dict[str, nn.Parameter], ema: float | None, channels_last: bool):
        self.engine, self.stage, self.parameters, self.decay = engine, stage, names, ema
        self.channels_last = channels_last
        self.dropped = False

    def __call__(self, *arguments: torch.Tensor) -> torch.Tensor:
        """`FaceMakeUp.forward`. Pictures go in with their channels last, where that was asked for, and stay so: a
        convolution follows its input or its weights."""
        if self.channels_last:
            arguments = [
                value.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value for value in arguments
            ]
        return self.engine(*arguments)

    @property
    def module(self) -> FaceMakeUp:
        return self.engine.module

    def keys(self) -> list[str]:
        return ["master", *MOMENTS, *(["ema"] if self.decay else [])]

    def full(self, name: str, key: str) -> torch.Tensor:
        """The full fp32 tensor, on every rank: a collective call, so all ranks ask for the same in the same order."""
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        parameter = self.parameters[name]
        if self.stage == 0:
            value = parameter if key == "master" else self._base.state[parameter][key]
            return value.detach()
        if key == "master":
            return safe_get_full_fp32_param(parameter).detach()
        return safe_get_full_optimizer_state(parameter, key).detach()

    def set_full(self, name: str, key: str, value: torch.Tensor) -> None:
        """The opposite of `full`; each rank keeps its part."""
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

        parameter = self.parameters[name]
        if self.stage == 0:
            target = parameter if key == "master" else self._base.state[parameter][key]
            with torch.no_grad():
                target.copy_(value)
        elif key == "master":
            safe_set_full_fp32_param(parameter, value)
            self._set_compute_copy(parameter, value)
        else:
            safe_set_full_optimizer_state(parameter, value, key)

    def _set_compute_copy(self, parameter: nn.Parameter, value: torch.Tensor) -> None:
        """What the network computes with; DeepSpeed would refresh it only after its next update."""
        import deepspeed

        with torch.no_grad(), deepspeed.zero.GatheredParameters([parameter], modifier_rank=0, enabled=self.stage == 3):
            parameter.data.copy_(value)

    def counts(self) -> dict[str, Any]:
        """What goes with the tensors in a checkpoint: `updates`, AdamW's own count, for its bias correction, and in fp16
        the state of the loss scale. Updates are fewer than steps where fp16 skipped some."""
        state = next(iter(self._base.state.values()))
        scaler = getattr(self.engine.optimizer, "loss_scaler", None)
        scale = {name: getattr(scaler, name) for name in LOSS_SCALE if hasattr(scaler, name)} if self.fp16 else None
        return {"updates": int(state["step"]), "loss_scale": scale}

    def set_counts(self, counts: dict[str, Any]) -> None:
        """The opposite of `counts`."""
        for state in self._base.state.values():
            state["step"].fill_(counts["updates"])
        if self.fp16 and counts["loss_scale"]:
            for name, value in counts["loss_scale"].items():
                setattr(self.engine.optimizer.loss_scaler, name, value)

    @property
    def fp16(self) -> bool:
        return self.engine.fp16_enabled()

    def step(self, step: int, rate: float) -> torch.Tensor | float:
        """Update at this learning rate; the gradient's norm before clipping, left on the device. `step`: finished steps.

        A norm that is not finite: nothing was updated and `dropped` is true (fp16, whose loss scale is then halved; and
        ZeRO 1-3), or the weights are lost (ZeRO-0).
        """
        for group in self._base.param_groups:
            group["lr"] = rate
        norm = None
        if self.stage == 0:  # DeepSpeed tells none
            gradients = [value.grad for value in self.parameters.values() if value.grad is not None]
            norm = torch.nn.utils.get_total_norm(gradients)
        skipped = self.engine.skipped_steps
        self.engine.step()
        self.dropped = self.engine.skipped_steps > skipped
        if self.decay:
            with torch.no_grad():
                for shard in self._shards():
                    self._base.state[shard]["ema"].lerp_(shard.data, 1 - ema_decay(self.decay, step))
        return self.engine.get_global_grad_norm() if norm is None else norm

    @property
    def _base(self) -> torch.optim.Optimizer:
        """torch's AdamW, inside whatever DeepSpeed wrapped around it."""
        optimiser = self.engine.optimizer
        return optimiser if isinstance(optimiser, torch.optim.Optimizer) else optimiser.optimizer

    def _shards(self) -> Iterator[torch.Tensor]:
        """This rank's fp32 masters, as AdamW sees them."""
        if self.stage == 0:
            yield from self.parameters.values()
        elif self.stage == 3:
            yield from self.engine.optimizer.fp32_partitioned_groups_flat
        else:
            yield from self.engine.optimizer.single_partition_of_fp32_groups

    def prepare_state(self) -> None:
        """Moments at zero and EMA at the masters, before the first step: torch would make them in it."""
        for shard in self._shards():
            if shard is None:
                raise EngineError("a master is not in memory (swapped out): this offload is not supported")
            state = self._base.state[shard]
            state.clear()
            state["step"] = new_count(shard, bool(self._base.defaults.get("fused")))
            for moment in MOMENTS:
                state[moment] = torch.zeros_like(shard.data)
            if self.decay:
                state["ema"] = shard.data.clone()
        link = getattr(self.engine.optimizer, "_lazy_init_hp_params_optimizer_state", None)
        if link is not None:
            link()


def new_count(shard: torch.Tensor, fused: bool) -> torch.Tensor:
    """AdamW's count of steps, where its kernel looks for it: the fused one beside its shard, the others on the host."""
    return torch.zeros((), dtype=torch.float32, device=shard.device if fused else "cpu")


def ema_decay(most: float, step: int) -> float:
    """Of the step after `step` finished ones: it grows, so that a short run's average is not its untrained start.

    The ramp is that of diffusers' EMAModel. With a constant 0.9999 the start would be 61 % of it after 5000 steps.
    """
    return min(most, (1 + step) / (10 + step))


def wrap(model: FaceMakeUp, recipe: TrainRecipe, world: int) -> Trained:
    """DeepSpeed's engine around `model`, whose trained parameters are fp32 and stay the masters' exact values.

    Raises:
        EngineError: a trained parameter without an fp32 master, or a frozen one with.
    """
    import deepspeed

    names = dict(model.trainable())
    if wrong := [name for name, parameter in names.items() if parameter.dtype != torch.float32]:
        raise EngineError(
            f"{len(wrong)} trained parameters are not float32, e.g. {wrong[0]}: in half precision an update of AdamW "
            "is mostly rounded away; build the model with fp32 trained parts, the engine casts copies of them"
        )
    values = {name: parameter.detach().clone() for name, parameter in names.items()}
    options = recipe.optimiser
    optimiser = torch.optim.AdamW(
        list(names.values()), lr=options.lr, betas=options.betas, eps=options.eps, weight_decay=options.weight_decay,
        fused=_fused(recipe),
    )  # fmt: skip
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimiser, config=deepspeed_config(recipe, world))
    trained = Trained(engine, recipe.engine.zero, names, recipe.saving.ema, recipe.engine.channels_last)
    trained.prepare_state()
    # in half precision DeepSpeed made the masters out of the rounded copies
    for name, value in values.items():
        trained.set_full(name, "master", value)
        if recipe.saving.ema:
            trained.set_full(name, "ema", value)
    require_masters(trained, model)
    if recipe.engine.channels_last and recipe.engine.zero < 3:
        # DeepSpeed keeps trained parameters (under stage 3 all of them) in flat pieces, and sends none that is not plain
        for name, parameter in model.named_parameters():
            if name not in names and parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return trained


def _fused(recipe: TrainRecipe) -> bool:
    """One kernel for all tensors where the masters are on a GPU; offloaded ones are stepped on the CPU."""
    return torch.cuda.is_available() and recipe.engine.device != "cpu" and not recipe.engine.offload_optimiser


def require_masters(trained: Trained, model: nn.Module) -> None:
    """Is exactly what is trained in the optimiser, in fp32?

    Raises:
        EngineError: which parameter is not, or is and should not be.
    """
    held = sum(shard.numel() for shard in trained._shards())
    if any(shard.dtype != torch.float32 for shard in trained._shards()):
        raise EngineError("the optimiser's masters are not float32: this engine would lose most updates to rounding")
    frozen = [name for name, parameter in model.named_parameters() if name not in trained.parameters]
    if wrong := [name for name in frozen if model.get_parameter(name).requires_grad]:
        raise EngineError(f"{len(wrong)} frozen parameters would be trained, e.g. {wrong[0]}")
    if trained.stage == 0 and held != sum(parameter.numel() for parameter in trained.parameters.values()):
        raise EngineError("the optimiser does not hold what is trained")
    for name in trained.parameters:
        if trained.full(name, "master").dtype != torch.float32:
            raise EngineError(f"{name} has no float32 master")
