"""What else the engine can be asked for: half precision over fp32 masters, state in main memory, less memory for more work."""

from __future__ import annotations

import pytest
import torch

import training.engine
from tests.training.ranks import losses_of, recipe_for, run_ranks, weights_of
from training.assembly import assemble
from training.engine import Trained

STEPS = 2


def ended(out):
    """Losses, and the masters at the end."""
    masters = {key: value for key, value in weights_of(out)[1].items() if key.startswith("master/")}
    return list(losses_of(out).values()), masters


@pytest.fixture(scope="module")
def usual(two_steps):
    """ZeRO-2, fp32, everything where it is used."""
    return ended(two_steps)


@pytest.mark.parametrize(("zero", "world"), [(1, 1), (2, 2), (3, 2)])
def test_in_bf16_masters_move_by_less_than_bf16_can_tell(shards, base, tmp_path, usual, zero, world):
    """At a small rate nearly every weight stays where it is in bf16 (the released checkpoint was trained so)."""
    recipe = recipe_for(
        shards, base, steps=STEPS, engine__zero=zero, engine__dtype="bf16",
        optimiser={"lr": 1e-6, "warmup_steps": 0, "eps": 1e-8, "weight_decay": 0.0, "schedule": "constant"},
    )  # fmt: skip
    run_ranks(recipe, tmp_path, world)
    losses, masters = ended(tmp_path)
    assert losses[0] == pytest.approx(usual[0][0], rel=0.02)
    assert all(value.dtype == torch.float32 for value in masters.values())
    # each tensor by what it started from; what starts at zero moves in any precision
    started = dict(assemble(recipe, 0, 1, torch.device("cpu")).model.trainable())
    pairs = [(started[name], masters[f"master/{name}"]) for name in started if started[name].abs().min() > 0]
    moved = sum(int((now != then).sum()) for then, now in pairs)
    moved_in_bf16 = sum(int((now.bfloat16() != then.bfloat16()).sum()) for then, now in pairs)
    total = sum(then.numel() for then, _ in pairs)
    assert moved > 0.8 * total and moved_in_bf16 < 0.1 * total, (moved / total, moved_in_bf16 / total)


@pytest.mark.parametrize(
    "engine",
    [
        {"zero": 2, "offload_optimiser": True},
        {"zero": 3, "offload_optimiser": True, "offload_parameters": True},
        {"zero": 2, "gradient_checkpointing": True, "channels_last": True},
    ],
    ids=lambda engine: "-".join(name for name in engine if name != "zero"),
)
def test_what_saves_memory_changes_no_step(shards, base, tmp_path, usual, engine):
    recipe = recipe_for(shards, base, steps=STEPS, **{f"engine__{name}": value for name, value in engine.items()})
    run_ranks(recipe, tmp_path)
    losses, masters = ended(tmp_path)
    assert losses == pytest.approx(usual[0], rel=1e-5)
    assert max(float((masters[key] - value).abs().max()) for key, value in usual[1].items()) < 1e-5


def test_stage_3_gives_up_what_a_module_gathered(shards, base, tmp_path):
    """Between the forward and the backward pass no rank has whole weights, but for the small ones that it always has."""
    told = tmp_path / "held"

    def count(rank):
        usual, config = Trained.__call__, training.engine.deepspeed_config

        def without_prefetching(*arguments):  # which is by 5e7 numbers: all of so small a model
            told = config(*arguments)
            return {**told, "zero_optimization": {**told["zero_optimization"], "stage3_prefetch_bucket_size": 0}}

        def call(self, *arguments):
            prediction = usual(self, *arguments)
            large = [parameter for parameter in self.module.parameters() if not parameter.ds_persist]
            held = sum(parameter.ds_status.name == "AVAILABLE" for parameter in large)
            with told.open("a") as file:
                print(len(large), held, file=file)
            return prediction

        Trained.__call__, training.engine.deepspeed_config = call, without_prefetching

    run_ranks(recipe_for(shards, base, steps=STEPS, engine__zero=3), tmp_path / "run", hook=count)
    passes = [tuple(map(int, line.split())) for line in told.read_text().splitlines()]
    assert len(passes) == 2 * STEPS and all(large > 10 and not held for large, held in passes), passes
