"""A run that is killed or asked to stop: it ends as it would have, with the same bits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.training.ranks import assert_same_run, losses_of, recipe_for, run_ranks, start_ranks
from training.checkpoint import Checkpoints

STEPS = 6


def kill_at(point, times=1):
    """A hook that ends the rank by SIGKILL when `point` is reached for the `times`-th time."""

    def hook(rank):
        import training.checkpoint as checkpoint
        import training.trainer as trainer

        count = [0]

        def die(*_):
            count[0] += 1
            if count[0] == times:
                os.kill(os.getpid(), signal.SIGKILL)

        def before(owner, name, found=lambda *arguments: True):
            usual = getattr(owner, name)

            def replaced(*arguments, **named):
                if found(*arguments):
                    die()
                return usual(*arguments, **named)

            setattr(owner, name, replaced)

        if point == "step":
            before(trainer, "share_of_step")
        elif point == "snapshot":
            from training.engine import Trained

            before(Trained, "full", lambda _, name, key: key == "exp_avg_sq")
        elif point == "data":
            before(checkpoint.Checkpoints, "_put_file")
        elif point == "manifest":
            before(checkpoint.Checkpoints, "_put_text", lambda _, text, target: target.endswith("manifest.json"))
        elif point == "rotation":
            before(checkpoint.Checkpoints, "_remove")

    return hook


@pytest.mark.parametrize(
    ("point", "times"),
    [("step", 6), ("snapshot", 300), ("data", 2), ("manifest", 2), ("rotation", 1)],
)
def test_a_run_that_was_killed_goes_on_to_the_same_bits(shards, base, tmp_path, undisturbed, point, times):
    recipe = recipe_for(shards, base, saving__every=2, saving__keep=1 if point == "rotation" else 2)
    (rank,), _ = start_ranks(recipe, tmp_path, hook=kill_at(point, times))
    rank.join(timeout=300)
    assert rank.exitcode == -signal.SIGKILL
    run_ranks(recipe, tmp_path)
    assert_same_run(tmp_path, undisturbed)
    folders = list((tmp_path / "checkpoints").iterdir())
    assert len(folders) == recipe.saving.keep and all((folder / "manifest.json").exists() for folder in folders)
    assert not list(tmp_path.rglob(".writing-*")) and not list(tmp_path.rglob("*.part"))


def test_sigterm_to_one_rank_saves_on_all_and_ends(shards, base, tmp_path, undisturbed):
    def sigterm_in_step_3(rank):
        import training.trainer as trainer

        usual, calls = trainer._step, []

        def step(*arguments):
            calls.append(1)
            if rank == 1 and len(calls) == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            return usual(*arguments)

        trainer._step = step

    rows = run_ranks(recipe_for(shards, base, saving__every=100), tmp_path, world=2, hook=sigterm_in_step_3)
    step = rows[-1]["step"]
    assert rows[-1]["kind"] == "stopped" and 3 <= step < STEPS
    assert [saved.step for saved in Checkpoints(str(tmp_path), 0, 1, 2).all()] == [step]
    run_ranks(recipe_for(shards, base, saving__every=100), tmp_path)
    first, second = losses_of(tmp_path), losses_of(undisturbed)
    assert [first[step] for step in first] == pytest.approx([second[step] for step in first], rel=1e-6)


def test_sigterm_to_a_group_spares_the_loader_workers(shards, base, tmp_path, undisturbed):
    """torchrun, Slurm and systemd signal every process; a loader worker that dies takes its rank along, unsaved."""

    def sigterm_to_all_in_step_3(rank):
        import training.trainer as trainer

        os.setsid()
        usual, calls = trainer._step, []

        def step(*arguments):
            calls.append(1)
            if len(calls) == 3:
                # from a stranger: torch lets a worker live that its parent ends
                stranger = f"import os, signal; os.killpg({os.getpgrp()}, signal.SIGTERM)"
                subprocess.run([sys.executable, "-c", stranger], start_new_session=True, check=True)
                time.sleep(1)  # for a worker's death to be heard of
            return usual(*arguments)

        trainer._step = step

    recipe = recipe_for(shards, base, saving__every=100, data__workers=2)
    rows = run_ranks(recipe, tmp_path, hook=sigterm_to_all_in_step_3)
    assert rows[-1]["kind"] == "stopped" and rows[-1]["step"] == 3
    run_ranks(recipe, tmp_path)
    assert_same_run(tmp_path, undisturbed)
