"""A micro-batch is a function of step and slot, whoever makes it; what is broken keeps its slot."""

from __future__ import annotations

import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from model.config import load_config
from tests.training.made.shards import sample
from tests.training.ranks import recipe_for
from training.assembly import open_pipeline
from training.batches import MicroBatches, loader, slot_draws, uniform
from training.data import shards as shards_module
from training.data.index import read_index
from training.data.order import Order
from training.data.sample import BrokenSample, Preparation, tensors_of
from training.data.shards import Shards
from training.recipe import ConditionDropout

SEED, BATCH, LANES = 3, 8, 4


@pytest.fixture(scope="module")
def ready(shards, base):
    config = load_config("tiny")
    pipeline = open_pipeline(recipe_for(shards, base), config)
    return Preparation(
        config.conditions,
        64,
        128,
        pipeline.tokenizer,
        pipeline.feature_extractor,
        ConditionDropout(text=0.3, face=0.3, clip_features=0.2),
    )


def batches(folder, cache, ready, rank=0, world=1, micro=4):
    index = read_index(folder, cache)
    order = Order(index.counts, seed=SEED, lanes=LANES, batch=BATCH, window=2)
    return MicroBatches(Shards(index, cache), order, ready, SEED, rank, world, micro)


def step_of(parts, t):
    """{slot: (id, tensors)} of a step, put together from the ranks' micro-batches."""
    found = {}
    for part in parts:
        for accumulated in range(part.accumulation):
            micro = part[t * part.accumulation + accumulated]
            slots = part.order.slots_of(part.rank, part.world, part.micro, accumulated)
            for row, slot in enumerate(slots.tolist()):
                found[slot] = micro.ids[row], {name: value[row] for name, value in micro.tensors().items()}
    return found


@pytest.mark.parametrize(("world", "micro"), [(1, 2), (2, 4), (4, 1)])
def test_ranks_and_micro_batches_only_slice_a_step(shards, tmp_path, ready, world, micro):
    whole = step_of([batches(shards, tmp_path, ready, micro=8)], t=5)
    parts = step_of([batches(shards, tmp_path, ready, rank, world, micro) for rank in range(world)], t=5)
    assert whole.keys() == parts.keys() == set(range(BATCH))
    for slot, (name, tensors) in whole.items():
        assert parts[slot][0] == name
        assert all(torch.equal(tensors[key], parts[slot][1][key]) for key in tensors)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_workers_change_nothing(shards, tmp_path, ready, workers):
    mine = batches(shards, tmp_path, ready)
    made = list(loader(mine, 3, 7, workers, prefetch=2, pin=False))
    assert [micro.t for micro in made] == [1, 2, 2, 3]
    for number, micro in enumerate(made, start=3):
        again = mine[number]
        assert micro.ids == again.ids
        assert all(torch.equal(value, again.tensors()[name]) for name, value in micro.tensors().items())


def test_a_worker_hands_over_one_piece_of_memory(shards, tmp_path, ready):
    """And nothing else: a descriptor for each tensor costs a training step more than the tensors."""
    for micro in loader(batches(shards, tmp_path, ready), 0, 3, workers=2, prefetch=2, pin=False):
        assert len({value.untyped_storage().data_ptr() for value in micro.tensors().values()}) == 1
        assert all(value.is_contiguous() and value.is_shared() for value in micro.tensors().values())
        again = pickle.loads(pickle.dumps(micro))  # noqa: S301
        assert again.ids == micro.ids and again.t == micro.t
        assert all(torch.equal(value, again.tensors()[name]) for name, value in micro.tensors().items())


def test_shapes_and_ranges_are_the_models(shards, tmp_path, ready):
    micro = batches(shards, tmp_path, ready)[0]
    assert micro.image.shape == micro.pose_map.shape == (4, 3, 64, 64)
    assert -1 <= micro.image.min() < 0 < micro.image.max() <= 1
    assert micro.pose_map.min() == 0 and 0 < micro.pose_map.max() <= 1
    assert micro.clip_pixels.shape == (4, 3, 56, 56) and micro.identity.shape == (4, 128)
    assert micro.input_ids.shape == (4, 77) and micro.noise.shape == micro.vae_noise.shape == (4, 4, 8, 8)
    assert micro.valid.tolist() == [1, 1, 1, 1] and not micro.corrupt


def test_dropout_is_drawn_from_the_streams_that_it_always_had(ready):
    """Of the names of the fields when the first runs were begun: a resumed run draws what it would have drawn."""
    dropout = ready.dropout.model_dump() | {"clip_features": 0.5, "face": 0.0, "everything": 0.0}
    changed = replace(ready, dropout=ConditionDropout(**dropout))
    for slot in range(32):
        kept = slot_draws(changed, SEED, 5, slot)
        assert bool(kept["keep_clip"]) == (uniform(SEED, "drop clip", 5, slot) >= 0.5)
        assert bool(kept["keep_text"]) == (uniform(SEED, "drop text", 5, slot) >= dropout["text"])


def test_conditions_are_dropped_as_often_as_the_recipe_says(ready):
    drawn = [slot_draws(ready, SEED, t, slot) for t in range(250) for slot in range(BATCH)]
    kept = {name: np.mean([float(one[name]) for one in drawn]) for name in drawn[0] if name.startswith("keep")}
    everything = ConditionDropout().everything
    assert kept["keep_text"] == pytest.approx((1 - 0.3) * (1 - everything), abs=0.04)
    assert kept["keep_identity"] == pytest.approx((1 - 0.3) * (1 - everything), abs=0.04)
    assert kept["keep_clip"] == pytest.approx((1 - 0.3) * (1 - everything) * (1 - 0.2), abs=0.04)
    assert kept["keep_pose"] == 1
    noise = torch.stack([one["noise"] for one in drawn])
    assert abs(float(noise.mean())) < 0.01 and float(noise.std()) == pytest.approx(1, abs=0.01)
    timesteps = np.array([int(one["timestep"]) for one in drawn])
    assert 0 <= timesteps.min() < 20 and 980 < timesteps.max() <= 999


def test_clip_pixels_are_made_only_where_they_are_looked_at(shards, tmp_path, ready):
    mine = batches(shards, tmp_path, ready)
    kept, made = [], []
    for number in range(4):
        kept += mine[number].keep_clip.bool().tolist()
        made += [bool(seen.any()) for seen in mine[number].clip_pixels]
    assert made == kept and {*kept} == {True, False}


def test_draws_of_other_steps_slots_and_streams_differ(ready):
    first, other_slot, other_step = (
        slot_draws(ready, SEED, 0, 0),
        slot_draws(ready, SEED, 0, 1),
        slot_draws(ready, SEED, 1, 0),
    )
    again = slot_draws(ready, SEED, 0, 0)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["noise"], other_slot["noise"])
    assert not torch.equal(first["noise"], other_step["noise"])
    assert not torch.equal(first["noise"], first["vae_noise"])


def test_a_broken_sample_keeps_its_slot_and_is_named(shards, tmp_path, monkeypatch, ready):
    copy = tmp_path / "broken"
    shutil.copytree(shards, copy)
    whole = batches(copy, tmp_path / "cache", ready)
    (shard,), (position,) = whole.order.slots(0, whole.order.slots_of(0, 1, 4, 0)[1:2])
    offset, size = whole.shards.index.members(shard, position)["jpg"]
    tar = copy / whole.shards.index.names[shard]
    data = bytearray(tar.read_bytes())
    data[offset + 200 : offset + size] = bytes(size - 200)
    tar.write_bytes(data)
    monkeypatch.setattr(shards_module, "verify_once", lambda *_: None)  # it was spoilt after it was verified
    hurt = MicroBatches(Shards(whole.shards.index, tmp_path / "cache"), whole.order, ready, SEED, 0, 1, 4)
    before, after = batches(shards, tmp_path / "cache", ready)[0], hurt[0]
    assert after.ids == before.ids and after.valid.tolist() == [1, 0, 1, 1]
    assert [name for name, _ in after.corrupt] == [before.ids[1]]
    assert all(torch.equal(after.image[row], before.image[row]) for row in (0, 2, 3))
    assert torch.equal(after.noise, before.noise)


def test_a_sample_that_is_held_out_keeps_its_slot_with_weight_0(shards, tmp_path, ready):
    whole = batches(shards, tmp_path, ready)
    (shard,), (position,) = whole.order.slots(0, whole.order.slots_of(0, 1, 4, 0)[1:2])
    before = whole[0]
    held = MicroBatches(whole.shards, whole.order, ready, SEED, 0, 1, 4, held_out=frozenset({(shard, position)}))
    after = held[0]
    assert after.valid.tolist() == [1, 0, 1, 1] and after.ids == before.ids and not after.corrupt
    assert torch.equal(after.image, before.image) and torch.equal(after.noise, before.noise)
    assert all(loaded.valid.tolist() == [1, 0, 1, 1] for loaded in loader(held, 0, 1, workers=1, prefetch=2, pin=False))


@pytest.mark.parametrize(
    ("member", "content", "words"),
    [
        ("jpg", b"no picture", "not_an_image"),
        ("json", b"{}", "face_box"),
        ("json", b"{", "JSONDecodeError"),
        ("json", b"[" * 99999, "nested too deeply"),
        ("json", b'{"face_box": [0, 0, 1' + b"0" * 400 + b', 9], "face_landmarks": [1, 2, 3, 4, 5, 6, 7, 8, 9, 0], "face_score": 1}',
         "OverflowError"),
        ("identity.npy", b"", "ValueError"),
        ("identity.npy", b"PK\x03\x04", "magic string"),
        ("txt", b"\xff\xfe", "UnicodeDecodeError"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_sample_is_said(ready, member, content, words):
    members = {**dict(sample(1)[1]), member: content}
    with pytest.raises(BrokenSample, match=words):
        tensors_of(ready, members)
