"""Runs of the trainer in ranks that are forked from this process, which has torch imported already."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import traceback
from pathlib import Path

import torch
from safetensors.torch import load_file

from model.config import load_config
from training.recipe import TrainRecipe

PATIENCE = 550  # seconds; a busy machine is no failure


def recipe_for(folder: Path, base: Path, **changes) -> TrainRecipe:
    """The tiny recipe on small made shards: 8 samples a step, fp32, ZeRO-2; `changes`: SECTION__FIELD=value.

    AdamW with a large eps: a small one turns the rounding of a gradient near 0 into a whole step.
    """
    tree = {
        "name": "test",
        "model": "tiny",
        "base": str(base),
        "steps": 6,
        "data": {"shards": str(folder), "workers": 0, "shard_cache": str(folder.parent / "cache")},
        "batch": {"size": 8, "micro": 4, "lanes": 2, "window": 2},
        "optimiser": {"lr": 1e-3, "warmup_steps": 2, "eps": 1e-4, "schedule": "constant"},
        "engine": {"zero": 2, "dtype": "fp32", "device": "cpu", "channels_last": False},
        "saving": {"every": 100, "keep": 2, "ema": 0.9, "export": False},
        "monitoring": {"log_every": 1, "validate_every": 100, "validation_samples": 0},
    }
    for dotted, value in changes.items():
        *sections, name = dotted.split("__")
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    return TrainRecipe.model_validate(tree)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_ranks(
    recipe: TrainRecipe, out: Path, world: int = 1, hook=None, evaluate=None
) -> tuple[list, multiprocessing.Queue]:
    """`hook(rank)` is called in each rank before it trains; a SIGKILL is what it may arrange. `evaluate`: the trainer's."""
    prepare(recipe)
    context = multiprocessing.get_context("fork")
    answers, port = context.Queue(), free_port()
    ranks = [
        context.Process(target=_rank, args=(rank, world, port, recipe, str(out), answers, hook, evaluate))
        for rank in range(world)
    ]
    for rank in ranks:
        rank.start()
    return ranks, answers


def run_ranks(recipe: TrainRecipe, out: Path, world: int = 1, hook=None, evaluate=None) -> list[dict]:
    """Train; the log's lines.

    Raises:
        AssertionError: with the trace of a rank that failed.
    """
    ranks, answers = start_ranks(recipe, out, world, hook, evaluate)
    told = [answers.get(timeout=PATIENCE) for _ in ranks]
    for rank in ranks:
        rank.join(timeout=60)
    problems = [answer for answer in told if answer]
    assert not problems, problems[0]
    return log_of(out)


def log_of(out: Path, kind: str | None = None) -> list[dict]:
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [row for row in rows if kind in (None, row["kind"])]


def weights_of(out):
    """All tensors of the newest checkpoint, by name, whoever wrote which part."""
    newest = sorted((out / "checkpoints").glob("step-*/manifest.json"))[-1].parent
    tensors = {}
    for part in newest.glob("*.safetensors"):
        tensors |= load_file(part)
    return newest.name, tensors


def assert_same_run(one, other):
    (name, first), (other_name, second) = weights_of(one), weights_of(other)
    assert name == other_name and first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def losses_of(out):
    """{step: loss}; of steps that were done twice, the later."""
    return {row["step"]: row["loss"] for row in log_of(out, "train")}


def prepare(recipe: TrainRecipe) -> None:
    """Imports and counts what every rank needs; DeepSpeed's Muon alone costs 8 seconds (it brings torch's compiler) and is always imported."""
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    import deepspeed.ops
    import deepspeed.runtime.zero.muon.muon_optimizer  # noqa: F401

    import training.export
    import training.trainer  # noqa: F401
    from training.planning.flops import flops_of

    flops_of(load_config(recipe.model))  # counted for the log: 3 seconds of each rank otherwise


def _rank(rank, world, port, recipe, out, answers, hook, evaluate):
    try:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "DS_ACCELERATOR": "cpu"}
        torch.set_num_threads(1)
        from training.launch.process_group import init_distributed
        from training.launch.stop_checks import stop_on_signal
        from training.trainer import train

        init_distributed(recipe)
        stop = stop_on_signal()
        if hook is not None:
            hook(rank)
        train(recipe, out, rank, world, rank, stop, evaluate=evaluate)
        answers.put("")
    except BaseException:
        answers.put(f"rank {rank}: {traceback.format_exc()}")
        raise
