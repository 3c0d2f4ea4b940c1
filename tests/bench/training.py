"""The trainer beside its limits and its peers: loader, step, memory, checkpoints. On made shards and a random base."""

from __future__ import annotations

import os
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("DS_ACCELERATOR", "cpu")

from tests.bench.duel import Bench, one_thread
from tests.bench.loading.loader import Input, bench_loader, bench_reading, bench_seeking, bench_waiting
from tests.bench.loading.mosaic import bench_mosaic
from tests.bench.state import bench_checkpoints, bench_memory
from tests.bench.steps import bench_steps
from tests.training.made.shards import make_shards
from tests.training.ranks import recipe_for
from training.data.sample import Preparation
from training.recipe import ConditionDropout


@dataclass(frozen=True)
class Size:
    """How much is measured. Photos of `side` pixels are made into pictures of `size`, as for SD1.5."""

    shards: tuple[int, ...] = (16,) * 8
    side: int = 512
    size: int = 512
    micro: int = 8
    rounds: int = 5
    waiting_steps: int = 200
    step_samples: int = 32
    steps: int = 12


def quiet() -> None:
    """Dozens of engines are made: what each would say of itself hides the table."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    warnings.simplefilter("ignore", FutureWarning)


def inputs(folder: Path, size: Size) -> tuple[Input, Path]:
    """Shards with what makes tensors of them, and the folder of a random tiny base."""
    from common.pinned_files.weights import resolve
    from model.build import random_pipeline
    from model.config import load_config

    config = load_config("tiny")
    pipeline = random_pipeline(config, resolve("clip-vocabulary").path)
    pipeline.save_pretrained(folder / "base")
    # nothing is dropped: of what is, the trainer's loader makes no CLIP pixels, and the others would have more to do
    ready = Preparation(
        conditions=config.conditions, size=size.size, identity_dim=config.identity_dim, tokenizer=pipeline.tokenizer,
        processor=pipeline.feature_extractor, dropout=ConditionDropout(text=0, face=0, everything=0),
    )  # fmt: skip
    shards = make_shards(folder / "shards", size.shards, side=size.side)
    return Input(shards, folder / "cache", ready, size.micro), folder / "base"


def bench(size: Size = Size()) -> Bench:
    one_thread()
    quiet()
    found = Bench("training, on this machine, one thread a process")
    with tempfile.TemporaryDirectory(prefix="facemakeup-bench-") as scratch:
        folder = Path(scratch)
        given, base = inputs(folder, size)
        recipe = recipe_for(
            given.folder, base, steps=size.steps,
            batch={"size": size.step_samples, "micro": size.step_samples, "lanes": 2, "window": 2},
        )  # fmt: skip
        bench_loader(found, given, size.rounds)
        bench_mosaic(found, given, size.rounds)
        bench_reading(found, given, size.rounds)
        bench_seeking(found, rounds=size.rounds)
        bench_waiting(found, given, size.waiting_steps)
        bench_steps(found, recipe, str(folder / "steps"))
        two = recipe.model_copy(update={"batch": recipe.batch.model_copy(update={"micro": size.step_samples // 2})})
        bench_memory(found, two)
        bench_checkpoints(found, recipe, str(folder / "saved"), size.rounds)
    return found
