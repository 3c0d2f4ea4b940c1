"""The recipe of a training run: every path, number and switch once, typed; YAML in, clear errors out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from math import cos, pi
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from common.cluster import environment
from common.settings import RecipeError as RecipeError  # for all of training/
from common.settings import Section, read_yaml, substitute, validated, with_changes, yaml_file
from training.layout import accumulation, check_layout

RECIPES = Path(__file__).parent / "recipes"


class Data(Section):
    shards: str = Field(description="folder of NNNNN.tar with their sidecars; local, s3://, gs://, http(s)://")
    shard_cache: str | None = Field(None, description="local folder for shards from elsewhere")
    shard_cache_gb: float | None = Field(None, gt=0, description="how much of it shards may take; none: all of them")
    encoder_cache: Literal["auto", "off", "require", "require-both"] = Field(
        "auto",
        description="what `make cache` computed: used where it is there and fits; never; stop without the VAE moments; "
        "stop without them or the CLIP features",
    )
    workers: int = Field(2, ge=0, description="loader processes a rank; 0: in the training process itself")
    prefetch: int = Field(4, ge=1, description="micro-batches made ahead by each worker")
    corrupt_share: float = Field(0.001, ge=0, le=1, description="more corrupt samples than this stop the run")

    @property
    def shard_cache_bytes(self) -> int | None:
        return None if self.shard_cache_gb is None else int(self.shard_cache_gb * 1e9)


class Batch(Section):
    size: int = Field(ge=1, description="B, samples of a step over all ranks; constant over a run")
    micro: int = Field(ge=1, description="samples in one pass of one rank; B / micro / ranks passes are accumulated")
    lanes: int = Field(ge=1, description="L; the run may go on with any number of ranks that divides it")
    window: int = Field(8, ge=1, description="shards whose samples are shuffled together")

    def accumulation(self, world: int) -> int:
        """Micro-batches that each of `world` ranks adds up to one step."""
        return accumulation(self.size, self.micro, world)

    def check_layout(self, world: int, samples: int) -> None:
        """Can `world` ranks train on `samples` samples in this recipe's order?

        Raises:
            ValueError: no; names everything that is wrong, with the nearest values that would do.
        """
        check_layout(
            batch=self.size, micro=self.micro, accumulation=self.accumulation(world), world=world, lanes=self.lanes,
            samples=samples,
        )  # fmt: skip


class ConditionDropout(Section):
    """How often a condition is dropped: replaced by the unconditional one, which guidance needs to have been trained on.

    Each draw is independent.
    """

    text: float = Field(0.05, ge=0, le=1, description="the empty prompt")
    face: float = Field(0.05, ge=0, le=1, description="identity and CLIP features together")
    everything: float = Field(0.05, ge=0, le=1, description="text and face together")
    identity: float = Field(0.0, ge=0, le=1, description="identity alone: zeros")
    clip_features: float = Field(
        0.0, ge=0, le=1, description="CLIP features alone: those of a zero image; 0.5 the authors'"
    )
    pose: float = Field(0.0, ge=0, le=1, description="a black pose map")


class Objective(Section):
    min_snr_gamma: float | None = Field(5.0, gt=0, description="none: every timestep counts the same (the authors)")
    noise_offset: float = Field(0.0, ge=0, description="a constant a channel, added to the noise")
    condition_dropout: ConditionDropout = ConditionDropout()


class Optimiser(Section):
    """AdamW."""

    lr: float = Field(1e-4, gt=0, description="learning rate, after the warm-up")
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = Field(1e-8, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    max_grad_norm: float = Field(1.0, ge=0, description="gradients of a larger norm are clipped to it; 0: no clipping")
    warmup_steps: int = Field(500, ge=0, description="in which the learning rate grows linearly from 0")
    schedule: Literal["constant", "cosine"] = "cosine"

    def lr_at(self, step: int, steps: int) -> float:
        """Learning rate of step `step` (from 0) of `steps`."""
        if step < self.warmup_steps:
            return self.lr * (step + 1) / self.warmup_steps
        if self.schedule == "constant":
            return self.lr
        done = (step - self.warmup_steps) / max(1, steps - self.warmup_steps)
        return self.lr * 0.5 * (1 + cos(pi * min(1.0, done)))


class Engine(Section):
    zero: Literal[0, 1, 2, 3] = Field(2, description="DeepSpeed ZeRO stage")
    dtype: Literal["fp32", "bf16", "fp16"] = "bf16"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    offload_optimiser: bool = Field(False, description="moments and masters in main memory; stage 1 and up")
    offload_parameters: bool = Field(False, description="parameters in main memory; stage 3")
    gradient_checkpointing: bool = False
    channels_last: bool = True
    compile: bool = Field(False, description="torch.compile, block by block; not with stage 3 or checkpointing")
    deterministic: bool = Field(False, description="bit-exact on a GPU, slower")

    @model_validator(mode="after")
    def _goes_together(self) -> Engine:
        if self.compile and self.zero == 3:
            raise ValueError("compile does not go with zero: 3, whose hooks break every graph; take zero: 2")
        if self.compile and self.gradient_checkpointing:
            raise ValueError("compile does not go with gradient_checkpointing here: take one of the two")
        if self.zero == 0 and self.dtype != "fp32":
            raise ValueError(f"zero: 0 keeps no fp32 masters for {self.dtype}: take zero: 1, which costs nothing more")
        if self.offload_optimiser and self.zero == 0:
            raise ValueError("offload_optimiser needs zero: 1, 2 or 3")
        if self.offload_parameters and self.zero != 3:
            raise ValueError("offload_parameters needs zero: 3")
        return self


class Saving(Section):
    every: int = Field(2000, ge=1, description="steps between checkpoints")
    keep: int = Field(3, ge=1, description="of the latest; older ones are removed")
    export: bool = Field(True, description="at the end, in the layouts that others load")
    ema: float | None = Field(0.9999, gt=0, lt=1, description="decay of the moving average of the masters; none: none")


class Monitoring(Section):
    log_every: int = Field(10, ge=1, description="steps between lines of the log")
    validate_every: int = Field(1000, ge=1, description="steps between fixed-noise losses and image grids")
    validation_samples: int = Field(8, ge=0, description="samples of the fixed panel; 0: no validation")
    inference_steps: int = Field(30, ge=1, description="denoising steps of a validation picture")
    loss_spike_factor: float = Field(
        3.0, gt=1, description="a mean loss this many times the lowest one so far stops the run"
    )
    profile_steps: int = Field(0, ge=0, description="steps of each start that are traced into OUT/profile; --profile")


class Evaluation(Section):
    """The evaluation's figures of drawings from photos that are never trained on, while the run goes on."""

    every: int = Field(
        0, ge=0, description="steps between two evaluations; 0: none. The photos are held out all the same"
    )
    references: int = Field(0, ge=0, description="photos that are drawn from, spread over the shards")
    inference_steps: int = Field(30, ge=1, description="denoising steps of a drawing")
    prompts: list[str] = Field([""], min_length=1, description='each photo is drawn by each; "": by its own caption')
    other_photos: dict[str, str] = Field(
        {},
        description="photos of one person, ID: ID of another. The first ones are references before any others, the second "
        "ones are what copying is measured against; what the shards do not have is passed over",
    )

    @model_validator(mode="after")
    def _has_references(self) -> Evaluation:
        if self.every and not self.references:
            raise ValueError("every needs references: say how many photos are held out and drawn from, e.g. 8")
        return self


class TrainRecipe(Section):
    name: str
    model: str = Field("sd15", description="sd15, tiny or a YAML file of model/configs")
    base: str | None = Field(None, description="folder or hub name of the base; default: what the model names")
    start_from: str | None = Field(None, description="warm start: a checkpoint in any layout of model.checkpoints")
    seed: int = 0
    steps: int = Field(ge=1)
    data: Data
    batch: Batch
    objective: Objective = Objective()
    optimiser: Optimiser = Optimiser()
    engine: Engine = Engine()
    saving: Saving = Saving()
    monitoring: Monitoring = Monitoring()
    evaluation: Evaluation = Evaluation()


# fields that had another name before, by where they stood; what comes first is renamed first
RENAMED = {
    "data.cache": "data.shard_cache",
    "data.cache_gb": "data.shard_cache_gb",
    "data.cached": "data.encoder_cache",
    "objective.drop": "objective.condition_dropout",
    "objective.condition_dropout.clip": "objective.condition_dropout.clip_features",
    "optimiser.rate": "optimiser.lr",
    "optimiser.clip": "optimiser.max_grad_norm",
    "optimiser.warmup": "optimiser.warmup_steps",
    "seeing": "monitoring",
    "monitoring.panel": "monitoring.validation_samples",
    "monitoring.drawing_steps": "monitoring.inference_steps",
    "monitoring.collapse": "monitoring.loss_spike_factor",
    "monitoring.profile": "monitoring.profile_steps",
}


def with_current_names(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe that a checkpoint of an earlier version holds, with the names that its fields have now."""
    current = deepcopy(dict(tree))
    for old, new in RENAMED.items():
        *sections, name = old.split(".")
        place = current
        for section in sections:
            place = place.get(section, {})
        if name in place:
            place[new.rpartition(".")[2]] = place.pop(name)
    return current


def load_recipe(name: str | Path, changes: Sequence[str] = ()) -> TrainRecipe:
    """A YAML file, or one of recipes/ by its name; `changes`: FIELD=VALUE, e.g. `engine.zero=3`.

    Raises:
        RecipeError: no such file, or a field that is wrong, with its name and, for a misspelling, the right one.
    """
    file = yaml_file(name, RECIPES)
    named = f"{file}, changed by {', '.join(changes)}," if changes else str(file)
    return checked(substitute(with_changes(read_yaml(file), changes), {}), named)


def submitted_recipe() -> TrainRecipe | None:
    """The recipe that came with this Ray job; None: this is no such job."""
    text = environment.submitted_recipe()
    return checked(json.loads(text), "the submitted recipe") if text else None


def checked(tree: Mapping[str, Any], where: str) -> TrainRecipe:
    """The recipe of a tree that YAML or a job gave. `where`: what an error calls it.

    Raises:
        RecipeError: a field that is wrong, with its name.
    """
    return validated(TrainRecipe, tree, where, RENAMED)


def for_workers(recipe: TrainRecipe) -> dict[str, Any]:
    """The recipe as a tree with absolute paths, for workers of Ray, whose working folder is another."""
    tree = recipe.model_dump(mode="json")
    for section, name in ((tree["data"], "shards"), (tree, "base"), (tree, "start_from")):
        # URLs and names on the hub stay as they are
        if section[name] and Path(section[name]).exists():
            section[name] = str(Path(section[name]).resolve())
    if Path(recipe.model).is_file():  # else it is the name of one of model/configs
        tree["model"] = str(Path(recipe.model).resolve())
    if cache := tree["data"]["shard_cache"]:  # always a local folder, which need not be there yet
        tree["data"]["shard_cache"] = str(Path(cache).resolve())
    return tree
