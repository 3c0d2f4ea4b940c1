"""What was computed before is what would be computed now; what does not fit is not used, and said."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import training.data.sample
from common.storage import Storage
from tests.training.encoder_cache.damaged_shards import break_picture, change, take_out
from tests.training.loopback import serving
from tests.training.ranks import log_of, recipe_for, run_ranks
from tests.training.test_trainer import plain
from training.assembly import assemble
from training.batches import loader
from training.data.folder import ShardError
from training.data.index import read_index
from training.data.shards import Shards
from training.encoder_cache.opening import open_caches
from training.encoder_cache.reading import folder_name
from training.encoder_cache.writing import ShardEncoder, missing_shards, open_encoders
from training.monitoring.validation import Panel
from training.objective import losses, target_of
from training.recipe import RecipeError

CPU = torch.device("cpu")


def make_cache(recipe, kinds=("vae", "clip"), stored="fp32", storage=Storage):
    """What jobs/cache.py does, in this process; the plans by kind, as they were before."""
    index = read_index(recipe.data.shards, recipe.data.shard_cache)
    encoder = ShardEncoder(recipe, stored, CPU, threads=2)
    plans = {kind: missing_shards(encoder.encoders, kind, stored, recipe.engine.dtype, index) for kind in kinds}
    places = {kind: storage(f"{index.url}/cached/{made.name}") for kind, made in plans.items()}
    for kind, place in places.items():
        place.write_json("cached.json", plans[kind].facts)
    names = {kind: made.name for kind, made in plans.items()}
    for shard in sorted({shard for made in plans.values() for shard in made.todo}):
        encoder.write(Shards(index, recipe.data.shard_cache), shard, names, places)
    for place in places.values():
        place.write_json("sizes.json", dict(zip(index.names, index.counts.tolist(), strict=True)))
    return plans


@pytest.fixture(scope="module")
def folder(shards, tmp_path_factory):
    """The shards, to write beside, with everything cached in fp32."""
    copy = tmp_path_factory.mktemp("cached") / "shards"
    shutil.copytree(shards, copy)
    return copy


@pytest.fixture(scope="module")
def exact(folder, base):
    return make_cache(recipe_for(folder, base))


@pytest.fixture(scope="module")
def opened(folder, base):
    """What a run would read, without building the model: `open_caches` of a recipe."""
    encoders, _ = open_encoders(recipe_for(folder, base))

    def opened(recipe):
        index = read_index(recipe.data.shards, recipe.data.shard_cache)
        return open_caches(recipe, encoders, Shards(index, recipe.data.shard_cache))

    return opened


@pytest.fixture(scope="module")
def uncached(folder, base):
    return assemble(recipe_for(folder, base, data__encoder_cache="off"), 0, 1, CPU)


@pytest.fixture
def copy(shards, tmp_path):
    """Shards to be hurt."""
    shutil.copytree(shards, tmp_path / "shards")
    return tmp_path / "shards"


# -- a run -------------------------------------------------------------------------------------------------------


def test_a_run_from_the_cache_is_the_run_without_and_looks_at_no_picture(copy, base, tmp_path):
    """On two ranks, with pictures that nobody could read any more."""
    recipe = recipe_for(copy, base, data__encoder_cache="off", steps=4)
    make_cache(recipe)
    told, _ = plain(recipe)
    blind(copy, recipe.data.shard_cache)
    run_ranks(recipe_for(copy, base, data__encoder_cache="require-both", steps=4), tmp_path / "out", world=2)
    assert [row["loss"] for row in log_of(tmp_path / "out", "train")] == pytest.approx(
        [loss for loss, _ in told], rel=1e-5
    )
    assert not log_of(tmp_path / "out", "corrupt")
    assert log_of(tmp_path / "out", "started")[0]["cached"]["vae"].startswith("read from cached/vae-")


def blind(folder, cache):
    """Overwrite every picture, unseen by whoever asks for sizes and times."""
    index = read_index(folder, cache)
    for shard, name in enumerate(index.names):
        tar = folder / name
        before, data = tar.stat(), bytearray(tar.read_bytes())
        for position in range(int(index.counts[shard])):
            offset, size = index.members(shard, position)["jpg"]
            data[offset : offset + size] = bytes(size)
        tar.write_bytes(data)
        os.utime(tar, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(("stored", "kinds", "within"), [("fp32", ["vae"], 1e-5), ("fp16", ["vae", "clip"], 1e-2)])
def test_losses_agree_as_closely_as_the_values_are_stored(copy, base, uncached, stored, kinds, within):
    recipe = recipe_for(copy, base)
    make_cache(recipe, kinds, stored)
    parts = assemble(recipe, 0, 1, CPU)
    assert [kind for kind, said in parts.cache_notes.items() if said.startswith("read")] == kinds
    assert parts.batches[1].moments.dtype == (torch.float16 if stored == "fp16" else torch.float32)
    assert parts.batches[1].image is None and (parts.batches[1].clip_states is None) == (kinds == ["vae"])
    for number in range(4):
        (found, loss), (expected, without) = (seen_by(each, number) for each in (parts, uncached))
        assert loss == pytest.approx(without, rel=within)
        # a model that has learnt nothing yet hardly looks at them
        for name in ("latents", "clip_features"):
            torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=within, atol=within / 10)


@torch.no_grad()
def seen_by(parts, number):
    """What the model is given of a micro-batch, and its loss."""
    inputs = parts.encoders(parts.batches[number])
    target = target_of(parts.encoders.scheduler, inputs.latents, inputs.noise, inputs.timesteps)
    return inputs, losses(parts.model(*inputs.arguments()), target).tolist()


def test_a_picture_is_decoded_only_where_its_clip_features_are_kept(copy, base, monkeypatch):
    drop = {"data__encoder_cache": "require", "objective__condition_dropout": {"clip_features": 0.5}}
    recipe = recipe_for(copy, base, **drop)
    make_cache(recipe, ["vae"])
    decoded, usual = [], training.data.sample.decode
    monkeypatch.setattr(training.data.sample, "decode", lambda *a, **k: decoded.append(1) or usual(*a, **k))
    batch = assemble(recipe, 0, 1, CPU).batches[0]
    assert 0 < int(batch.keep_clip.sum()) < len(batch.ids) and len(decoded) == int(batch.keep_clip.sum())
    assert batch.valid.all() and [bool(seen.any()) for seen in batch.clip_pixels] == batch.keep_clip.bool().tolist()


def test_loader_workers_and_a_cache_of_shards_from_elsewhere_change_nothing(folder, base, exact, tmp_path):
    here = assemble(recipe_for(folder, base), 0, 1, CPU).batches
    with serving(folder) as server:
        changes = {"data__shards": server.url, "data__shard_cache": str(tmp_path / "far"), "data__shard_cache_gb": 0.05}
        far = assemble(recipe_for(folder, base, data__encoder_cache="require-both", **changes), 0, 1, CPU).batches
        made = list(loader(far, 0, 3, workers=1, prefetch=2, pin=False))
        far.shards.close()
    for number, batch in enumerate(made):
        same = here[number].tensors()
        assert batch.tensors().keys() == same.keys()
        assert all(torch.equal(value, same[name]) for name, value in batch.tensors().items())


def test_the_panel_sees_pictures_all_the_same(folder, base, exact, uncached):
    parts = assemble(recipe_for(folder, base), 0, 1, CPU)
    assert all(said.startswith("read") for said in parts.cache_notes.values())
    assert torch.equal(Panel(parts, 3).batch.image, Panel(uncached, 3).batch.image)


# -- what does not fit ---------------------------------------------------------------------------------------------


def test_a_key_changes_with_whatever_changes_a_value(base, shards):
    sources, _ = open_encoders(recipe_for(shards, base))

    def names(change=None, computed="fp32", stored="fp32", **conditions):
        config = sources.config
        config = config.model_copy(update={"conditions": config.conditions.model_copy(update=conditions)})
        changed = replace(sources, config=config.model_copy(update=change or {}))
        return [folder_name(changed.facts(kind, computed), stored) for kind in ("vae", "clip")]

    vae, clip = names()
    assert names() == [vae, clip]
    for other in (names(computed="bf16"), names(stored="fp16"), names(crop="pad"), names(crop_factor=2.0)):
        assert other[0] != vae and other[1] != clip
    assert names(align_size=224)[0] == vae and names(align_size=224)[1] != clip
    larger = names({"resolution": 128})
    assert larger[0] != vae and larger[1] == clip  # an aligned face has no resolution of the crop's
    assert names(clip_view="crop")[1] != names({"resolution": 128}, clip_view="crop")[1]
    with torch.no_grad():
        next(sources.vae.decoder.parameters()).add_(1)
        assert names() == [vae, clip]  # nothing is decoded
        next(sources.vae.encoder.parameters()).add_(1)
        next(sources.image_encoder.parameters()).add_(1)
    assert names()[0] != vae and names()[1] != clip


def test_a_cache_of_other_things_is_not_used_and_where_it_is_required_it_stops(folder, base, exact, opened):
    changed = {"engine__dtype": "bf16"}
    caches = opened(recipe_for(folder, base, **changed))
    assert isinstance(caches.shards, Shards) and "there is no" in caches.notes["vae"]
    for required in ("require", "require-both"):
        with pytest.raises(RecipeError, match="VAE moments.*there is no .*make cache RECIPE=.*WHAT=vae"):
            opened(recipe_for(folder, base, data__encoder_cache=required, **changed))
    off = opened(recipe_for(folder, base, data__encoder_cache="off"))
    assert off.notes == {"vae": "off", "clip": "off"} and isinstance(off.shards, Shards)


def test_a_shard_that_changed_is_named_and_made_again_alone(copy, base, opened):
    recipe = recipe_for(copy, base, data__encoder_cache="require")
    make_cache(recipe, ["vae"])
    change(copy / "00001.tar", take_out(3))
    with pytest.raises(RecipeError, match=r"00001\.tar changed since .*make cache RECIPE"):
        opened(recipe)
    tolerant = opened(recipe_for(copy, base))
    assert isinstance(tolerant.shards, Shards) and "00001.tar changed" in tolerant.notes["vae"]
    assert make_cache(recipe, ["vae"])["vae"].todo == [1]
    shards = opened(recipe).shards
    assert shards.is_hole(1, 3) and not shards.is_hole(1, 2)


def test_what_is_broken_is_counted_and_listed_as_without_a_cache(copy, base):
    change(copy / "00000.tar", break_picture(2))
    change(copy / "00001.tar", take_out(5))
    recipe = recipe_for(copy, base)
    make_cache(recipe)
    found = [assemble(recipe_for(copy, base, data__encoder_cache=how), 0, 1, CPU) for how in ("off", "require-both")]
    corrupt = []
    for number in range(14):  # a whole epoch
        without, cached = (parts.batches[number] for parts in found)
        assert without.ids == cached.ids and without.corrupt == cached.corrupt
        assert torch.equal(without.valid, cached.valid) and torch.equal(without.noise, cached.noise)
        assert torch.equal(without.pose_map, cached.pose_map) and torch.equal(without.identity, cached.identity)
        corrupt += cached.corrupt
    assert sorted(why.partition(":")[0] for _, why in corrupt) == ["00001.tar", "Undecodable"]


@pytest.mark.parametrize(
    ("stored", "words"),
    [("fp32", r"00002\.tar: sample \w+: its record says 64 x 63 pixels"), ("fp16", "fp16.*--dtype fp32")],
)
def test_what_cannot_be_cached_is_said(copy, base, stored, words):
    recipe = recipe_for(copy, base)
    if stored == "fp32":
        change(
            copy / "00002.tar",
            lambda data, told: data.__setitem__(slice(None), data.replace(b'"height":64', b'"height":63')),
        )
    encoder = ShardEncoder(recipe, stored, CPU)
    with torch.no_grad():
        encoder.encoders.vae.quant_conv.bias.add_(1e6 if stored == "fp16" else 0)
    index = read_index(copy, recipe.data.shard_cache)
    with pytest.raises(ShardError, match=words):
        encoder.write(Shards(index, recipe.data.shard_cache), 2, {"vae": "vae-0"}, {"vae": Storage(copy / "cached")})
    assert not list((copy / "cached").glob("*.tar"))


# -- kills ---------------------------------------------------------------------------------------------------------


class Mortal(Storage):
    """Dies where it is told to."""

    at = ""

    def put_file(self, local, relative):
        if self.at == f"tar {relative}":
            os.kill(os.getpid(), signal.SIGKILL)
        super().put_file(local, relative)
        if self.at == f"between {relative}":
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("at", ["tar 00000.tar", "between 00002.tar"])
def test_a_job_that_was_killed_goes_on_to_the_same_bytes(copy, base, exact, folder, opened, at, monkeypatch):
    recipe = recipe_for(copy, base)
    monkeypatch.setattr(Mortal, "at", at)
    job = multiprocessing.get_context("fork").Process(target=make_cache, args=(recipe, ["vae"], "fp32", Mortal))
    job.start()
    job.join(timeout=120)
    assert job.exitcode == -signal.SIGKILL
    assert "not whole" in opened(recipe).notes["vae"]
    made = make_cache(recipe, ["vae"])["vae"]
    assert made.todo == ([0, 1, 2, 3] if at.startswith("tar") else [2, 3])
    hashes = [
        {file.name: file.read_bytes() for file in (Path(place) / "cached" / made.name).iterdir()}
        for place in (copy, folder)
    ]
    assert len(hashes[0]) == 10 and hashes[0] == hashes[1]
