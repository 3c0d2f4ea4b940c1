"""Every condition is learnt: four short runs of the trainer, in each of which one condition alone tells 32 samples apart.

Around a frozen base the loss falls by learning to denoise, whatever the conditions say. So what counts is what the
fixed-noise loss does when samples are given each other's condition, and whether what is drawn from it is its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from common.pinned_files.packages import cache_dir
from common.pinned_files.weights import resolve
from model.conditioning.features import FaceConditions
from model.config import load_config
from model.pipeline import FaceMakeUpPipeline
from tests.training.encoder_cache.test_encoder_cache import make_cache
from tests.training.made.coded_faces import COUNT, coded_base, coded_shards, small_config
from tests.training.ranks import log_of, recipe_for, run_ranks, weights_of
from training.assembly import RunParts, assemble
from training.data.folder import locked
from training.monitoring.validation import FIXED_SEED, Panel
from training.recipe import TrainRecipe

CUT = {"text": 0.0, "face": 0.0, "everything": 0.0, "identity": 0.0, "clip_features": 0.0, "pose": 0.0}
OTHERS = {
    "identity": {"text": 1.0, "clip_features": 1.0, "pose": 1.0},
    "clip": {"text": 1.0, "identity": 1.0, "pose": 1.0},
    "pose": {"text": 1.0, "identity": 1.0, "clip_features": 1.0},
    "text": {"identity": 1.0, "clip_features": 1.0, "pose": 1.0},
}


class Learnt(NamedTuple):
    """`worth`: growth of the loss with another's condition, before and after; `own`: share of drawings nearest their own."""

    before: float
    after: float
    own: float


class World(NamedTuple):
    config: str
    wide: str  # the same with four times the LoRA: what reads the text
    shards: Path
    base: Path


class Course(NamedTuple):
    steps: int
    rate: float = 6e-3
    wide: bool = False
    seed: int = 0


# The resampler of the CLIP features is the deepest of the four, and falls over at a rate that the others like. An image
# attention that has learnt nothing is not silent: before training another's identity is by chance up to 0.5 % worse or
# better, a twentieth of what is asked afterwards.
COURSES = {
    "identity": Course(180),
    "clip": Course(280, rate=4e-3),
    "pose": Course(200),
    "text": Course(300, wide=True),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("coded")
    config = small_config(folder)
    root = cache_dir() / "tiny-base"
    with locked(root / "coded.lock"):  # tests side by side want the same one
        base = coded_base(load_config(config), resolve("clip-vocabulary").path, root)
    shards = coded_shards(folder / "shards")
    world = World(str(config), str(small_config(folder, rank=32)), shards, base)
    make_cache(recipe(world, {}, Course(1)))  # pictures are looked at once
    return world


def recipe(world: World, drop: dict, course: Course) -> TrainRecipe:
    return recipe_for(
        world.shards,
        world.base,
        model=world.wide if course.wide else world.config,
        steps=course.steps,
        seed=course.seed,
        batch__size=16,
        batch__micro=16,
        batch__lanes=1,
        objective={
            "min_snr_gamma": 0.2,
            "condition_dropout": CUT | drop,
        },  # what is drawn is decided where the noise is strong
        optimiser={
            "lr": course.rate,
            "betas": (0.9, 0.98),
            "weight_decay": 0.0,
            "warmup_steps": 20,
            "schedule": "cosine",
        },
        engine__zero=0,
        saving={"every": course.steps, "keep": 1, "ema": None, "export": False},
        monitoring={"validation_samples": 0, "log_every": 50},
    )


def measured(world: World, path: str, out: Path, course: Course, never: bool = False) -> Learnt:
    """`never`: the condition is dropped from every sample of training."""
    # now and then it is dropped, so that guidance has something to guide away from; the pose stays in both halves
    dropped = "clip_features" if path == "clip" else path
    drop = OTHERS[path] | {dropped: 1.0 if never else 0.0 if path == "pose" else 0.1}
    run_ranks(recipe(world, drop, course), out)
    given = assemble(recipe(world, OTHERS[path], course), 0, 1, torch.device("cpu"))
    given.model.eval()
    panel = Panel(given, COUNT, chunk=160)
    assert panel.given == [path]
    before = panel.worth(given.model)[path]
    _, tensors = weights_of(out)
    with torch.no_grad():
        for name, parameter in given.model.trainable():
            parameter.copy_(tensors[f"master/{name}"])
    return Learnt(
        before, panel.worth(given.model)[path], nearest_own(given, panel, 1 if never else 8 if path == "pose" else 4)
    )


def nearest_own(parts: RunParts, panel: Panel, draws: int) -> float:
    """Share of samples whose own latents are the nearest, of all 32, to the mean of what is drawn for them from noise."""
    pipeline: FaceMakeUpPipeline = parts.pipeline
    pipeline.set_progress_bar_config(disable=True)
    inputs = panel.inputs
    face = FaceConditions(inputs.identity, inputs.clip_features, inputs.pose_map, faces=[None] * COUNT, views=[])
    prompts = [""] * COUNT
    if "text" in panel.given:
        prompts = pipeline.tokenizer.batch_decode(panel.batch.input_ids, skip_special_tokens=True)
    drawn = sum(
        pipeline(
            prompts, face=face, num_inference_steps=12, seed=FIXED_SEED + 1000 * draw, ip_scale=1.0,
            controlnet_scale=1.0, guidance_scale=1.0 if panel.given == ["pose"] else 5.0, output_type="latent",
        ).images
        for draw in range(draws)
    )  # fmt: skip
    distances = torch.cdist((drawn / draws).flatten(1), inputs.latents.flatten(1))
    return float((distances.argmin(1) == torch.arange(COUNT)).float().mean())


@pytest.mark.parametrize("path", COURSES)
def test_a_condition_is_learnt(world, tmp_path, path):
    found = measured(world, path, tmp_path, COURSES[path])
    print(path, found)
    assert abs(found.before) < 0.02, "nothing is read before training"
    assert found.after >= 0.1, "with another's condition the loss must grow"
    assert found.own >= 0.9, "what is drawn must be one's own"


def test_with_the_condition_cut_nothing_is_learnt(world, tmp_path):
    """The same, with the condition never given in training: the loss falls all the same, and the proof fails."""
    found = measured(world, "identity", tmp_path, Course(60), never=True)
    print(found)
    assert found.after < 0.1 and found.own < 0.1


def test_a_hundredfold_rate_is_flagged_within_two_hundred_steps(world, tmp_path):
    """Here, since only from a base that has learnt can the loss rise to three times what it was."""
    usual = recipe(world, {}, Course(200))
    wild = usual.optimiser.model_copy(update={"lr": 0.6, "max_grad_norm": 0.0, "warmup_steps": 200})
    saving = usual.saving.model_copy(update={"every": 5, "keep": 40})
    with pytest.raises(AssertionError, match="Last checkpoint from before: .*step-0000000"):
        run_ranks(usual.model_copy(update={"optimiser": wild, "saving": saving}), tmp_path)
    (told,) = log_of(tmp_path, "diverged")
    assert told["step"] <= 200 and len(told["ids"]) == 16 and told["lowest_loss_at"] < told["step"]


def test_the_pose_encoder_hands_on_what_it_sees(world):
    """A fresh one: of 32 poses, features in front of its last layer that differ. torch's default: 5e-6."""
    parts = assemble(recipe(world, OTHERS["pose"], Course(1)), 0, 1, torch.device("cpu"))
    encoder, seen = parts.model.controlnet.controlnet_cond_embedding, []
    encoder.conv_out.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
    encoder(Panel(parts, COUNT).inputs.pose_map)
    assert seen[0].std(0).mean() > 0.005
    assert not np.any(encoder.conv_out.weight.detach().numpy()), "and no pose changes anything before it is learnt"
