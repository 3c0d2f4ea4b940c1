"""Going on: only with the same run, on ranks that see the same, and with every count that it had."""

from __future__ import annotations

import errno
import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.training.encoder_cache.test_encoder_cache import make_cache
from tests.training.ranks import assert_same_run, log_of, recipe_for, run_ranks, weights_of
from training.assembly import assemble
from training.checkpoint import Checkpoints
from training.engine import Trained, ema_decay, new_count
from training.recipe import RENAMED


def manifest_of(out):
    return json.loads(sorted((out / "checkpoints").glob("step-*/manifest.json"))[-1].read_text())


def test_another_encoder_or_another_view_is_another_run(shards, base, tmp_path, two_steps):
    """What no trained tensor tells: the VAE's weights, what the image encoder is shown."""
    out, other = shutil.copytree(two_steps, tmp_path / "run"), shutil.copytree(base, tmp_path / "base")
    file = next((other / "vae").glob("*.safetensors"))
    weights = load_file(file)
    save_file({name: value + 1e-4 for name, value in weights.items()}, file, metadata={"format": "pt"})
    with pytest.raises(AssertionError, match="begun with the frozen vae [0-9a-f]{64}, now it is"):
        run_ranks(recipe_for(shards, other, steps=4), out)
    config = tmp_path / "tiny.yaml"
    from model.config import CONFIGS

    config.write_text((CONFIGS / "tiny.yaml").read_text().replace("clip_view: aligned", "clip_view: crop"))
    with pytest.raises(AssertionError, match="begun with the model's conditions"):
        run_ranks(recipe_for(shards, base, steps=4, model=str(config)), out)


def test_a_cache_that_is_made_meanwhile_is_not_taken_up_in_the_middle(shards, base, tmp_path, two_steps, undisturbed):
    copy, out = shutil.copytree(shards, tmp_path / "shards"), shutil.copytree(two_steps, tmp_path / "run")
    make_cache(recipe_for(copy, base), ["vae"], "fp16")
    run_ranks(recipe_for(copy, base), out)
    assert_same_run(out, undisturbed)
    assert log_of(out, "started")[-1]["cached"]["vae"] == "computed: as when this run was begun"
    run_ranks(recipe_for(copy, base, steps=2), tmp_path / "new")
    assert "read from" in log_of(tmp_path / "new", "started")[0]["cached"]["vae"]
    shutil.rmtree(copy / "cached")
    with pytest.raises(AssertionError, match="this run has read its cache so far, but the .* cannot be had"):
        run_ranks(recipe_for(copy, base, steps=4), tmp_path / "new")


def test_ranks_that_do_not_share_the_folder_are_told_at_the_start(shards, base, tmp_path):
    def apart(rank):
        import training.trainer as trainer

        usual = trainer.Checkpoints
        trainer.Checkpoints = lambda out, *others: usual(f"{out}/node-{rank}", *others)

    with pytest.raises(AssertionError, match=r"ranks \[1\] do not see what rank 0 writes there"):
        run_ranks(recipe_for(shards, base), tmp_path, world=2, hook=apart)
    assert not list(tmp_path.rglob("log.jsonl")), "before anything is begun"


def test_a_checkpoint_that_cannot_be_written_is_heard_of_at_once(shards, base, tmp_path):
    def full_disk(rank):
        from training.checkpoint import Checkpoints

        def put(self, file, target):
            raise OSError(errno.ENOSPC, "No space left on device", target)

        Checkpoints._put_file = put

    with pytest.raises(AssertionError, match="a checkpoint could not be written: .*No space left on device"):
        run_ranks(recipe_for(shards, base, steps=20, saving__every=8), tmp_path, hook=full_disk)
    assert max(row["step"] for row in log_of(tmp_path, "train")) < 16, "before the next one is due"


def test_of_two_runs_in_one_folder_the_later_goes_on(shards, base, tmp_path):
    def another_begins_at_step_5(rank):
        import training.trainer as trainer

        usual, calls = trainer._step, []

        def step(*arguments):
            calls.append(1)
            if len(calls) == 5:
                (tmp_path / "owner").write_text("another")
            return usual(*arguments)

        trainer._step = step

    with pytest.raises(AssertionError, match="another run has begun in this folder"):
        run_ranks(recipe_for(shards, base, saving__every=2), tmp_path, hook=another_begins_at_step_5)
    assert manifest_of(tmp_path)["step"] in (2, 4), "the thread may not have been done with the one of step 4"


def test_a_checkpoint_of_a_recipe_with_the_old_names_is_gone_on_from(shards, base, tmp_path, two_steps):
    out = shutil.copytree(two_steps, tmp_path / "run")
    (manifest,) = (out / "checkpoints").glob("step-*/manifest.json")
    facts = json.loads(manifest.read_text())
    for old, new in reversed(RENAMED.items()):
        *sections, name = new.split(".")
        place = facts["recipe"]
        for section in sections:
            place = place[section]
        place[old.rpartition(".")[2]] = place.pop(name)
    assert facts["recipe"]["seeing"]["panel"] == 0 and "lr" not in facts["recipe"]["optimiser"]
    manifest.write_text(json.dumps(facts))
    run_ranks(recipe_for(shards, base, steps=4), out)
    assert [row["step"] for row in log_of(out, "started")] == [0, 2]


def test_a_manifest_that_is_none_is_named(shards, base, tmp_path, two_steps):
    out = shutil.copytree(two_steps, tmp_path / "run")
    (manifest,) = (out / "checkpoints").glob("step-*/manifest.json")
    told = json.loads(manifest.read_text())
    del told["read"]
    manifest.write_text(json.dumps(told))
    with pytest.raises(AssertionError, match=f"{manifest.parent}: of an earlier version"):
        run_ranks(recipe_for(shards, base, steps=4), out)
    manifest.write_bytes(b"")
    with pytest.raises(AssertionError, match=f"{manifest}: no manifest .*Remove {manifest.parent} to go on"):
        run_ranks(recipe_for(shards, base, steps=4), out)


@pytest.mark.parametrize("zero", [0, 2])
def test_a_gradient_that_is_no_number_stops_before_it_is_saved(shards, base, tmp_path, zero):
    """The loss is one: DeepSpeed would skip the update in silence, and without ZeRO write it into the weights."""

    def poison(rank):
        import training.trainer as trainer

        class Poisoned(torch.autograd.Function):
            @staticmethod
            def forward(context, value):
                return value.clone()

            @staticmethod
            def backward(context, gradient):
                return gradient * float("nan")

        usual, calls = trainer.share_of_step, []

        def share(*arguments):
            calls.append(1)
            loss = usual(*arguments)
            return Poisoned.apply(loss) if len(calls) == 5 else loss  # two micro-batches a step

        trainer.share_of_step = share

    with pytest.raises(AssertionError, match=r"step 3: loss 0\.\d+, gradient norm (nan|inf)"):
        run_ranks(recipe_for(shards, base, engine__zero=zero, saving__every=1), tmp_path, hook=poison)
    step, tensors = weights_of(tmp_path)
    assert step == "step-000000002" and all(value.isfinite().all() for value in tensors.values())


def test_what_was_corrupt_before_a_restart_still_counts(shards, base, tmp_path, two_steps):
    out = shutil.copytree(two_steps, tmp_path / "run")
    assert manifest_of(out)["corrupt"] == 0

    def corrupt(rank):
        import training.monitoring.outcomes as outcomes
        import training.trainer as trainer

        usual = trainer._before_step
        trainer._before_step = lambda *arguments: usual(*arguments)._replace(corrupt=3)
        outcomes.gather_lists = lambda mine: [("0123456789abcdef", "cut short")] * 3

    run_ranks(recipe_for(shards, base, steps=4, data__corrupt_share=0.5), out, hook=corrupt)
    assert manifest_of(out)["corrupt"] == 6
    with pytest.raises(AssertionError, match="9 of 40 samples are corrupt"):
        run_ranks(recipe_for(shards, base, steps=6, data__corrupt_share=0.01), out, hook=corrupt)


def test_the_average_of_a_short_run_is_not_its_untrained_start():
    left = 1.0
    for step in range(1000):
        left *= ema_decay(0.9999, step)
    assert left < 1e-6
    assert ema_decay(0.99, 10**6) == 0.99 and ema_decay(0.9999, 0) == 0.1


def test_the_first_average_is_mostly_the_first_step(shards, base, tmp_path):
    recipe = recipe_for(shards, base, steps=1)
    run_ranks(recipe, tmp_path)
    _, tensors = weights_of(tmp_path)
    for name, start in assemble(recipe, 0, 1, torch.device("cpu")).model.trainable():
        expected = start.detach().lerp(tensors[f"master/{name}"], 0.9)
        assert torch.allclose(tensors[f"ema/{name}"], expected, atol=1e-7), name


def test_the_fused_optimiser_counts_beside_its_weights():
    """torch asks for it: on a GPU a count on the host ends the first step."""
    shard = torch.zeros(3, device="meta")
    assert new_count(shard, fused=True).device == shard.device
    assert new_count(shard, fused=False).device.type == "cpu"


def test_skipped_updates_and_the_loss_scale_of_fp16_are_gone_on_with():
    """DeepSpeed's own scale around torch's AdamW; no fp16 engine starts on a CPU."""
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler

    def engine():
        parameter = torch.nn.Parameter(torch.ones(2))
        optimiser = torch.optim.AdamW([parameter])
        scaler = DynamicLossScaler(
            init_scale=2.0**16, scale_window=3, min_scale=1, delayed_shift=2, consecutive_hysteresis=False
        )
        wrapped = SimpleNamespace(optimizer=optimiser, loss_scaler=scaler)
        inside = SimpleNamespace(optimizer=wrapped, fp16_enabled=lambda: True)
        optimiser.state[parameter]["step"] = torch.zeros(())
        return Trained(inside, 2, {"w": parameter}, None, False), scaler, optimiser.state[parameter]

    first, scaler, state = engine()
    state["step"] += 40
    for name, value in {"cur_scale": 1024.0, "cur_iter": 46, "last_overflow_iter": 44, "cur_hysteresis": 1}.items():
        assert hasattr(scaler, name), "DeepSpeed calls it otherwise now"
        setattr(scaler, name, value)
    told = json.loads(json.dumps(first.counts()))
    assert told["updates"] == 40
    second, restored, _ = engine()
    second.set_counts(told)
    assert second.counts() == first.counts()
    for _ in range(4):  # it grows after so many updates in a row
        scaler.update_scale(False)
        restored.update_scale(False)
        assert vars(restored) == vars(scaler)
    assert restored.cur_scale == 2048.0


def test_only_rank_0_chooses_what_all_go_on_from(shards, base, tmp_path, undisturbed):
    """Another node's listing may be of a minute ago."""
    out = shutil.copytree(undisturbed, tmp_path / "run")

    def stale(rank):
        if rank == 1:
            usual = Checkpoints.all
            Checkpoints.all = lambda self: usual(self)[:1]

    run_ranks(recipe_for(shards, base, steps=7), out, world=2, hook=stale)
    assert [row["step"] for row in log_of(out, "started")] == [0, 6]
    assert [row["step"] for row in log_of(out, "train")] == [1, 2, 3, 4, 5, 6, 7]
