"""A step waits for the device where DeepSpeed looks for what is not finite, and nowhere else."""

from __future__ import annotations

import json

import pytest
import torch

from tests.training.ranks import recipe_for, run_ranks
from tests.training.waits import Waits

STEPS = 4
# DeepSpeed's at most: of its overflow flag, of the norm before the update and before clipping, and a number that it copies
DEEPSPEED = 4


@pytest.fixture
def waits():
    with Waits() as waits:
        yield waits


def on_device(*values: float) -> torch.Tensor:
    return torch.tensor(values).pin_memory().to(torch.device("cpu"), non_blocking=True)


PLANTED = {
    "value by item": lambda x: x.sum().item(),
    "value by tolist": lambda x: x.tolist(),
    "value by cpu": lambda x: x.cpu(),
    "value by numpy": lambda x: x.numpy(),
    "value by to": lambda x: x.to("cpu"),
    "value by __bool__": lambda x: bool((x > 0).any()),
    "value by __float__": lambda x: float(x[0]),
    "value by __int__": lambda x: int(x[0]),
    "value by nonzero": lambda x: (x > 0).nonzero(),
    "value by masked_select": lambda x: x.masked_select(x > 0),
    "value by where": lambda x: torch.where(x > 0),
    "mask in __getitem__": lambda x: x[x > 0],
    "mask in __setitem__": lambda x: x.__setitem__(x > 0, x[:2].clone()),
    "copy of indices in __getitem__": lambda x: x[[0, 1]],
    "copy of numbers by tensor": lambda x: torch.tensor([1.0], device=x.device),
    "copy of numbers by new_tensor": lambda x: x.new_tensor(1.0),
    "copy by to": lambda x: torch.ones(2).to(x.device, non_blocking=True),
    "copy by copy_": lambda x: x.copy_(torch.ones(3)),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_each_kind_of_wait_is_seen(waits, kind):
    value = on_device(1.0, 2.0, -1.0)
    assert waits.now == []
    PLANTED[kind](value)
    assert [told.rsplit(" ", 1)[0] for told in waits.now] == [kind]


def test_what_stays_where_it_is_is_no_wait(waits):
    host, value = torch.tensor([1.0, 0.0, 1.0]), on_device(1.0, 2.0, -1.0)
    rows = host.nonzero().flatten()
    assert rows.tolist() == [0, 2] and bool(host.any()) and float(host[0]) == 1.0
    value[rows.pin_memory().to(torch.device("cpu"), non_blocking=True)] = 0.0
    (torch.zeros((), device=value.device) + value.sum()).square()
    assert waits.now == []


@pytest.mark.parametrize(("zero", "dtype", "allowed"), [(1, "bf16", DEEPSPEED), (0, "fp32", 2)])
def test_a_step_waits_only_where_deepspeed_looks_for_what_is_not_finite(shards, base, tmp_path, zero, dtype, allowed):
    """With two micro-batches. A step without ZeRO waited 22 times before: seven times a micro-batch, eight times beside; of these
    DeepSpeed's two are left."""

    def watch(rank):
        import training.data.micro_batch
        import training.engine
        import training.trainer as trainer

        waits, told, load = Waits(), trainer.Progress, trainer.loader

        def loader(*arguments, **named):  # from here on: what is done once may wait
            waits.__enter__()
            return load(*arguments, **named)

        def progress(*arguments):
            waits.end_of_step()
            (tmp_path / "waits.json").write_text(json.dumps(waits.steps))
            return told(*arguments)

        trainer.loader, trainer.Progress = loader, progress
        # as on a GPU
        training.data.micro_batch.can_pin = lambda device: True
        training.engine._fused = lambda recipe: True

    changes = {"engine__zero": zero, "engine__dtype": dtype, "monitoring__log_every": 100}
    run_ranks(recipe_for(shards, base, steps=STEPS, **changes), tmp_path, hook=watch)
    steps = json.loads((tmp_path / "waits.json").read_text())
    assert len(steps) == STEPS
    for waits in steps[1:-1]:  # the zero image is encoded once, and the last step logs and saves
        assert len(waits) <= allowed and all("engine.py" in where for where in waits), waits
    assert any("tolist" in where for where in steps[-1]), "a step that logs does wait"
