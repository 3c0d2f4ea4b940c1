"""The process group of a rank: torch.distributed, as DeepSpeed wants it, on GPUs or on CPUs."""

from __future__ import annotations

import os

from training.recipe import TrainRecipe


def init_distributed(recipe: TrainRecipe) -> None:
    """torch.distributed by the environment's RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT; nccl on GPUs, else gloo."""
    import torch

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
