"""Under DeepSpeed ZeRO the model trains as it does without: face tokens reach both branches, forward and backward."""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback

import pytest
import torch

from model.build import trained_parts
from tests.model.test_facemakeup import step_inputs

RANKS, STEPS = 2, 2
ADAMW = {"lr": 1e-3, "eps": 1e-4}  # with a smaller eps Adam turns rounding of a gradient near 0 into a whole step


def loss_of(trained, inputs):
    target = torch.randn(inputs[0].shape, generator=torch.Generator().manual_seed(9))
    return (trained(*inputs) - target[: len(inputs[0])]).square().mean()


def plain(trained):
    """The reference: both ranks' samples in one batch, torch's AdamW."""
    optimiser = torch.optim.AdamW([parameter for _, parameter in trained.trainable()], **ADAMW)
    for step in range(STEPS):
        optimiser.zero_grad()
        loss_of(trained, step_inputs(batch=1, seed=step)).backward()
        optimiser.step()
    return {name: parameter.detach().clone() for name, parameter in trained.trainable()}


def rank_main(rank, port, stage, trained, answers):
    try:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(RANKS), "MASTER_ADDR": "127.0.0.1"}
        os.environ |= {"MASTER_PORT": str(port), "DS_ACCELERATOR": "cpu"}
        torch.set_num_threads(1)
        import deepspeed
        from deepspeed.ops import __compatible_ops__ as ops

        ops.update(deepspeed_shm_comm=False, shm_comm=False)  # an accelerator of gloo that wants a compiler
        deepspeed.init_distributed("gloo", auto_mpi_discovery=False, verbose=False)
        engine, *_ = deepspeed.initialize(
            model=trained,
            model_parameters=[parameter for _, parameter in trained.trainable()],
            config={
                "train_micro_batch_size_per_gpu": 1,
                "zero_optimization": {"stage": stage},
                "gradient_clipping": 0.0,  # DeepSpeed's default is 1.0
                "zero_force_ds_cpu_optimizer": False,
                "optimizer": {"type": "AdamW", "params": {**ADAMW, "weight_decay": 0.01, "torch_adam": True}},
            },
        )
        for step in range(STEPS):
            engine.backward(loss_of(engine.module if stage < 3 else engine, step_inputs(batch=1, seed=step)))
            engine.step()
        result = {}
        for name, parameter in trained.trainable():
            with deepspeed.zero.GatheredParameters([parameter], enabled=stage == 3):
                result[name] = parameter.detach().clone().numpy()
        if rank == 0:
            answers.put(result)
    except BaseException:
        answers.put(traceback.format_exc())
        raise


@pytest.mark.parametrize("stage", [2, 3])
def test_two_ranks_train_as_one_process_does(stage, vocabulary, own_pipeline):
    trained = trained_parts(own_pipeline)
    start = {name: parameter.detach().clone() for name, parameter in trained.trainable()}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("fork")  # torch and diffusers are imported already: seconds a rank
    answers = context.Queue()
    ranks = [context.Process(target=rank_main, args=(rank, port, stage, trained, answers)) for rank in range(RANKS)]
    for rank in ranks:
        rank.start()
    result = answers.get(timeout=240)
    for rank in ranks:
        rank.join(timeout=60)
    assert isinstance(result, dict), result
    expected = plain(trained)
    assert result.keys() == expected.keys()
    worst = max(float((torch.from_numpy(result[name]) - value).abs().max()) for name, value in expected.items())
    assert worst < 1e-6
    moved = max(float((value - start[name]).abs().max()) for name, value in expected.items())
    assert moved > 1e-3
