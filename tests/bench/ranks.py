"""Ranks of a measurement: forked, each with a process group, so that an engine does not outlive what it was for."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable
from queue import Empty
from typing import Any

import torch

from tests.training.ranks import free_port, prepare
from training.recipe import TrainRecipe

PATIENCE = 300  # seconds


def in_ranks(function: Callable[..., Any], recipe: TrainRecipe, world: int = 1, *arguments: Any) -> list[Any]:
    """`function(recipe, rank, world, *arguments)` in each rank, on the CPU with one thread; the answers, by rank.

    Raises:
        RuntimeError: with the trace of a rank that failed, or after `PATIENCE`.
    """
    prepare(recipe)
    context = multiprocessing.get_context("fork")
    answers, port = context.Queue(), free_port()
    ranks = [
        context.Process(target=_rank, args=(function, recipe, rank, world, port, answers, arguments))
        for rank in range(world)
    ]
    for rank in ranks:
        rank.start()
    try:
        told = sorted((answers.get(timeout=PATIENCE) for _ in ranks), key=lambda answer: answer[0])
    except Empty:
        raise RuntimeError(f"a rank of {function.__name__} did not answer within {PATIENCE} s") from None
    finally:
        for rank in ranks:
            rank.join(timeout=5)
            rank.kill()
    if failed := [trace for _, _, trace in told if trace]:
        raise RuntimeError(failed[0])
    return [answer for _, answer, _ in told]


def _rank(function, recipe, rank, world, port, answers, arguments):
    try:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "DS_ACCELERATOR": "cpu"}
        torch.set_num_threads(1)
        from training.launch.process_group import init_distributed

        init_distributed(recipe)
        answers.put((rank, function(recipe, rank, world, *arguments), ""))
    except BaseException:  # noqa: BLE001  told to the process that asked, which raises it
        answers.put((rank, None, traceback.format_exc()))
