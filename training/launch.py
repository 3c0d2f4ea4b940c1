"""Process groups: what a rank needs around the loop, under torchrun and under Ray Train."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import torch

from training.recipe import TrainRecipe


def init_distributed(recipe: TrainRecipe) -> None:
    """torch.distributed by the environment's RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT; nccl on GPUs, else gloo."""
    on_gpu = torch.cuda.is_available() and recipe.engine.device != "cpu"
    if not on_gpu:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    import deepspeed

    if not on_gpu:
        from deepspeed.ops import __compatible_ops__

        # a shared-memory extra of gloo that wants a compiler and two minutes
        __compatible_ops__.update(deepspeed_shm_comm=False, shm_comm=False)
    if not torch.distributed.is_initialized():
        deepspeed.init_distributed("nccl" if on_gpu else "gloo", auto_mpi_discovery=False, verbose=False)
    if recipe.engine.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)


def stop_on_signal() -> Callable[[int], bool]:
    """True after SIGTERM or SIGINT: the step that runs is finished and saved. Only in a main thread."""
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: asked.append(received))
    return lambda step: bool(asked)


def stop_on_file(place: str) -> Callable[[int], bool]:
    """True once the file is there: how a run in Ray's worker threads, which take no signals, is asked to end."""
    return lambda step: os.path.exists(place)
