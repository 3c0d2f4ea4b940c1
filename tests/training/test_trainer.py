"""Training: the same under every engine and any number of ranks; what stops it; what it leaves behind."""

from __future__ import annotations

import json
import os
import shutil

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel

from common.hashing import sha256_of_bytes
from model.build import trained_parts
from model.config import load_config
from tests.training.ranks import free_port, log_of, losses_of, recipe_for, run_ranks, weights_of
from training.assembly import assemble, open_pipeline
from training.data.index import read_index
from training.engine import EngineError, wrap
from training.objective import losses, min_snr_weights, target_of

STEPS = 6


def plain(recipe):
    """The same run in a bare loop of torch: loss and gradient norm of each step, and the weights at the end."""
    parts = assemble(recipe, 0, 1, torch.device("cpu"))
    trainable = dict(parts.model.trainable())
    options = recipe.optimiser
    optimiser = torch.optim.AdamW(
        trainable.values(), lr=options.lr, betas=options.betas, eps=options.eps, weight_decay=options.weight_decay
    )
    told = []
    for step in range(recipe.steps):
        micros = [parts.batches[step * parts.batches.accumulation + a] for a in range(parts.batches.accumulation)]
        optimiser.zero_grad()
        total = 0.0
        for micro in micros:
            inputs = parts.encoders(micro)
            target = target_of(parts.encoders.scheduler, inputs.latents, inputs.noise, inputs.timesteps)
            weights = min_snr_weights(parts.encoders.scheduler, inputs.timesteps, recipe.objective.min_snr_gamma)
            loss = (losses(parts.model(*inputs.arguments()), target) * weights).sum() / recipe.batch.size
            loss.backward()
            total += loss.item()
        norm = torch.nn.utils.clip_grad_norm_(trainable.values(), options.max_grad_norm)
        for group in optimiser.param_groups:
            group["lr"] = options.lr_at(step, recipe.steps)
        optimiser.step()
        told.append((total, norm.item()))
    return told, {name: parameter.detach() for name, parameter in trainable.items()}


@pytest.fixture(scope="module")
def reference(shards, base):
    return plain(recipe_for(shards, base))


@pytest.mark.parametrize(("zero", "world"), [(0, 1), (1, 2), (2, 2), (3, 2)])
def test_every_engine_is_plain_torch(shards, base, tmp_path, reference, zero, world):
    run_ranks(recipe_for(shards, base, engine__zero=zero), tmp_path, world)
    told, expected = reference
    rows = log_of(tmp_path, "train")
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert [row["loss"] for row in rows] == pytest.approx([loss for loss, _ in told], rel=1e-6)
    assert [row["grad_norm"] for row in rows] == pytest.approx([norm for _, norm in told], rel=1e-4)
    _, tensors = weights_of(tmp_path)
    worst = max(float((tensors[f"master/{name}"] - value).abs().max()) for name, value in expected.items())
    assert worst < 1e-6


def test_the_number_of_ranks_may_change_on_the_way(shards, base, tmp_path, two_steps, undisturbed):
    """1 -> 2 -> 1: the same samples, the loss to rounding of the reduction."""
    out = shutil.copytree(two_steps, tmp_path / "run")
    for steps, world in ((4, 2), (6, 1)):
        run_ranks(recipe_for(shards, base, steps=steps), out, world)
    first, second = losses_of(out), losses_of(undisturbed)
    assert first.keys() == second.keys()
    assert [first[step] for step in first] == pytest.approx([second[step] for step in first], rel=1e-6)
    (_, one), (_, other) = weights_of(out), weights_of(undisturbed)
    assert max(float((one[key] - other[key]).abs().max()) for key in one) < 1e-6


def test_another_run_does_not_go_on_in_the_same_folder(shards, base, tmp_path, undisturbed):
    shutil.copytree(undisturbed, tmp_path / "run")
    with pytest.raises(AssertionError, match="begun with seed 0, now it is 1"):
        run_ranks(recipe_for(shards, base, seed=1, steps=8), tmp_path / "run")


def test_a_damaged_checkpoint_is_named_and_not_gone_on_from(shards, base, tmp_path, undisturbed):
    shutil.copytree(undisturbed, tmp_path / "run")
    newest = sorted((tmp_path / "run" / "checkpoints").iterdir())[-1]
    part = newest / "part-0-of-1.safetensors"
    data = bytearray(part.read_bytes())
    data[-10] ^= 1
    part.write_bytes(data)
    with pytest.raises(AssertionError, match=f"{part.name}: damaged"):
        run_ranks(recipe_for(shards, base, steps=8), tmp_path / "run")


def test_a_checkpoint_is_no_larger_than_what_training_needs(undisturbed):
    """16 bytes a trained parameter with EMA: master, two moments, EMA in fp32; nothing frozen."""
    newest = sorted((undisturbed / "checkpoints").iterdir())[-1]
    held = sum(file.stat().st_size for file in newest.iterdir())
    _, tensors = weights_of(undisturbed)
    trained = sum(value.numel() for key, value in tensors.items() if key.startswith("master/"))
    assert held / (16 * trained) < 1.02


def test_what_was_trained_is_exported_in_layouts_that_load(undisturbed, shards, base):
    from model.build import load_pipeline
    from model.checkpoints.reading import read

    folder = undisturbed / "export"
    checkpoint = read(folder / "face-makeup.safetensors")
    assert checkpoint.metadata["steps"] == str(STEPS) and checkpoint.metadata["weights"] == "ema"
    _, tensors = weights_of(undisturbed)
    pipeline = load_pipeline(folder / "pipeline")
    for name, parameter in trained_parts(pipeline).trainable():
        assert torch.equal(parameter, tensors[f"ema/{name}"]), name
    unet = UNet2DConditionModel.from_pretrained(base / "unet")
    stock = StableDiffusionPipeline(
        pipeline.vae, pipeline.text_encoder, pipeline.tokenizer, unet, pipeline.scheduler, None, None,
        requires_safety_checker=False,
    )  # fmt: skip
    stock.load_ip_adapter(
        folder / "diffusers", subfolder="", weight_name="ip-adapter-facemakeup.safetensors", image_encoder_folder=None
    )
    assert "faceid_0" in stock.unet.peft_config
    # nothing of the machine: not where the base and the run are, and the modes are those of any new file
    written = [file for file in folder.rglob("*") if file.is_file()]
    assert (folder / "pipeline" / "face_finder" / "settings.json") in written
    places = [str(place.parent).encode() for place in (base, shards, undisturbed)]
    assert not [file for file in written if any(place in file.read_bytes() for place in places)]
    (undisturbed / "plain").touch()
    assert {file.stat().st_mode for file in written} == {(undisturbed / "plain").stat().st_mode}


def test_a_trained_part_without_an_fp32_master_is_refused(shards, base):
    recipe = recipe_for(shards, base)
    model = trained_parts(open_pipeline(recipe, load_config("tiny")))
    model.projector.to(torch.bfloat16)
    with pytest.raises(EngineError, match="trained parameters are not float32, e.g. projector"):
        wrap(model, recipe, 1)


def test_a_loss_that_is_no_number_stops_with_the_samples(shards, base, tmp_path):
    with pytest.raises(AssertionError, match=r"step \d+: loss (nan|inf).*Its samples: [0-9a-f]{16}"):
        run_ranks(recipe_for(shards, base, optimiser__lr=1e30, optimiser__warmup_steps=0), tmp_path)
    assert log_of(tmp_path, "diverged")[0]["ids"]


def test_a_few_corrupt_samples_are_listed_and_many_stop_the_run(shards, base, tmp_path):
    copy = tmp_path / "shards"
    shutil.copytree(shards, copy)
    index = read_index(copy, tmp_path / "cache")
    tar = copy / index.names[1]
    data = bytearray(tar.read_bytes())
    for position in range(8):
        offset, size = index.members(1, position)["identity.npy"]
        data[offset : offset + size] = bytes(size)
    tar.write_bytes(data)
    sidecar = tar.with_suffix(".json")
    told = json.loads(sidecar.read_text())
    sidecar.write_text(json.dumps({**told, "sha256": sha256_of_bytes(data)}))
    out = tmp_path / "tolerant"
    run_ranks(recipe_for(copy, base, data__corrupt_share=0.5, steps=7), out, world=2)
    listed = log_of(out, "corrupt")
    assert {row["id"] for row in listed} == {index.id(1, position) for position in range(8)} and len(listed) == 8
    assert all(row["why"] for row in listed), "of both ranks, in an epoch that sees all 56 samples"
    with pytest.raises(AssertionError, match="samples are corrupt, more than data.corrupt_share"):
        run_ranks(recipe_for(copy, base, data__corrupt_share=0.001, steps=7), tmp_path / "strict")


@pytest.fixture(autouse=True, scope="module")
def _one_process_group():
    """For what is tested in this process."""
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    os.environ |= {"MASTER_PORT": str(free_port()), "DS_ACCELERATOR": "cpu"}
    import deepspeed  # noqa: F401  ranks fork from a process that has it

    yield
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        os.environ.pop(name, None)
