"""What a rank needs around the loop, under torchrun and under Ray Train: a process group, ears, words for what failed."""

from __future__ import annotations

import enum
import os
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

import fsspec

from common.storage import is_local
from training.recipe import RecipeError, TrainRecipe

STOP_POLL = 10.0  # seconds between two looks for the stop file in an object store: each is a request


class Ask(enum.IntEnum):
    """What is asked of a run after a step; of the ranks' answers the highest counts."""

    NOTHING = 0
    SAVE = 1  # and go on: a node is about to go
    STOP = 2  # save, and end


class Hopeless(RuntimeError):
    """What starting again does not cure.

    `code`, for the shell: 2 where the recipe or the data are wrong and nothing was begun, 1 where the run itself failed.
    """

    def __init__(self, message: str, code: int):
        super().__init__(message)
        self.code = code

    def __reduce__(self):
        return Hopeless, (str(self), self.code)


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


def crew(world: int) -> dict[str, list[Any]]:
    """`hosts` and `pids` of all ranks, by rank: whom to look at, or to kill, when a run hangs. All ranks call it."""
    import torch.distributed as dist

    told: list[Any] = [None] * world
    dist.all_gather_object(told, (socket.gethostname(), os.getpid()))
    return {"hosts": [host for host, _ in told], "pids": [pid for _, pid in told]}


# -- before anything is started ---------------------------------------------------------------------------------------


def check_layout_of(recipe: TrainRecipe, ranks: int) -> None:
    """Are the shards there, and can that many ranks see their order? In seconds, without a model.

    Raises:
        RecipeError, ShardError: no, and what would do.
    """
    from training.data.index import read_index

    samples = read_index(recipe.data.shards, recipe.data.cache).samples
    try:
        recipe.batch.check_layout(ranks, samples)
    except ValueError as error:
        raise RecipeError(f"{ranks} ranks: {error}") from error


# -- ears -------------------------------------------------------------------------------------------------------------


def stop_on_signal() -> Callable[[int], Ask]:
    """STOP after SIGTERM or SIGINT. Only in a main thread."""
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: asked.append(received))
    return lambda step: Ask.STOP if asked else Ask.NOTHING


def stop_on_file(out: str, rank: int) -> Callable[[int], Ask]:
    """STOP once OUT/stop is there: how a run in Ray's worker threads, which take no signals, is asked to end.

    Rank 0 looks: after each step on a disk, every 10 seconds in an object store.
    """
    fs, place = _stop_file(out)
    every = 0.0 if is_local(fs) else STOP_POLL
    looked = time.monotonic()

    def look(step: int) -> Ask:
        nonlocal looked
        if rank or time.monotonic() - looked < every:
            return Ask.NOTHING
        looked = time.monotonic()
        fs.invalidate_cache()
        return Ask.STOP if fs.exists(place) else Ask.NOTHING

    return look


def any_of(*ears: Callable[[int], Ask]) -> Callable[[int], Ask]:
    return lambda step: max(ear(step) for ear in ears)


def ask_to_stop(out: str) -> None:
    """Leave OUT/stop for the ranks."""
    fs, place = _stop_file(out)
    fs.makedirs(place.rpartition("/")[0], exist_ok=True)
    fs.pipe_file(place, b"")


def forget_stop(out: str) -> None:
    """Whoever starts a run wants it to go on: remove what stopped the one before."""
    fs, place = _stop_file(out)
    if fs.exists(place):
        fs.rm_file(place)


def _stop_file(out: str) -> tuple[fsspec.AbstractFileSystem, str]:
    fs, root = fsspec.core.url_to_fs(out)
    return fs, f"{root.rstrip('/')}/stop"


# -- words ------------------------------------------------------------------------------------------------------------


def train_or_say(
    recipe: TrainRecipe,
    out: str,
    rank: int,
    world: int,
    local_rank: int,
    stop: Callable[[int], Ask],
    seen: Callable[[Any], None],
    recogniser: Any = None,
) -> int:
    """`training.trainer.train`; its finished steps.

    Raises:
        Hopeless: what no restart cures. Everything else is what training raised, and may be cured by one.
    """
    from common.weights import WeightError
    from training.checkpoint import CheckpointFault
    from training.data.folder import ShardError
    from training.engine import EngineError
    from training.trainer import Diverged, TooManyCorrupt, train

    begun = False

    def noted(progress: Any) -> None:
        nonlocal begun
        begun = True
        seen(progress)

    try:
        return train(recipe, out, rank, world, local_rank, stop, noted, recogniser)
    except (Diverged, TooManyCorrupt) as error:
        raise Hopeless(str(error), 1) from error
    except (ValueError, ShardError, EngineError, WeightError, CheckpointFault) as error:
        if begun:
            raise
        raise Hopeless(str(error), 2) from error
