"""The planner's arithmetic against numbers worked out by hand, and which way it goes when something is changed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from model.config import load_config
from training.planning.assumptions import Assumptions, PlanError
from training.planning.flops import GPUS, flops_of, sizes_of
from training.planning.footprint import clip_bytes, memory_per_rank, moments_bytes, traffic_per_step
from training.planning.plan import NOTHING, VAE, VAE_CLIP, clip_kept, plan, rate
from training.recipe import load_recipe

A100, H100 = GPUS["a100"].bf16, GPUS["h100"].bf16
GIVEN = Assumptions(gpus=1, peak=A100)
P = 439_539_856


@pytest.fixture(scope="module")
def sd15():
    return load_config("sd15")


def planned(given=GIVEN, *changes, recipe="default"):
    recipe = load_recipe(recipe, list(changes))
    return plan(recipe, load_config(recipe.model), given)


EVERY_PICTURE = ("objective.condition_dropout.face=0", "objective.condition_dropout.everything=0")


@pytest.mark.parametrize(
    ("peak", "all_cached", "vae", "nothing"),
    [(A100, (117, 35, 47), (103, 31, 41), (75, 23, 30)), (H100, (370, 111, 148), (327, 98, 131), (239, 72, 96))],
)
def test_images_a_second_are_those_of_the_published_peaks(sd15, peak, all_cached, vae, nothing):
    shares = (1.0, 0.3, 0.4)
    assert [rate(flops_of(sd15).step, peak, share) for share in shares] == pytest.approx(list(all_cached), abs=0.7)
    found = planned(replace(GIVEN, peak=peak, utilisation=shares, cores=64), *EVERY_PICTURE)
    for name, expected in ((VAE, vae), (NOTHING, nothing)):
        speeds = found.option(name).speeds
        assert [speed.images_per_second for speed in speeds] == pytest.approx(list(expected), abs=0.7), name
        assert {speed.bottleneck for speed in speeds} == {"GPU"}
    # text is never cached, so it is a little less than with everything stored
    assert found.option(VAE_CLIP).speeds[0].gpu == pytest.approx(all_cached[0], rel=0.01)


def test_bytes_are_those_of_the_tensors(sd15):
    assert moments_bytes(sd15, "fp16") == 8 * 64 * 64 * 2 == 65_536
    assert clip_bytes(sd15, "fp16") == 257 * 1280 * 2 == 657_920
    assert clip_bytes(sd15, "fp32") == 2 * clip_bytes(sd15, "fp16")
    found = planned()
    assert (found.option(VAE_CLIP).stored - found.option(VAE).stored) / 1e12 == pytest.approx(2.76, abs=0.01)
    assert found.option(NOTHING).stored == 0
    per_byte = planned(GIVEN, *EVERY_PICTURE).flop_per_byte
    assert {name: value / 1e6 for name, value in per_byte.items()} == pytest.approx(
        {"VAE": 17, "CLIP": 0.51, "text": 0.11}, rel=0.03
    )


def test_making_the_moments_costs_ten_to_fourteen_hours_of_an_a100():
    hours = [speed.hours_making for speed in planned(replace(GIVEN, cores=64)).option(VAE).speeds]
    assert hours == pytest.approx([13.9, 10.4], abs=0.1)
    assert planned(replace(GIVEN, gpus=8, price=3.0)).option(VAE).speeds[0].making == pytest.approx(13.9 * 3, rel=0.01)
    assert [speed.pays_back for speed in planned().option(VAE).speeds] == pytest.approx([1.2, 1.3], abs=0.1)


def test_clip_costs_what_of_it_is_not_dropped(sd15):
    assert clip_kept(load_recipe("authors")) == 0.5
    assert clip_kept(load_recipe("default")) == pytest.approx(0.95 * 0.95)
    flops, authors = flops_of(sd15), planned(recipe="authors")
    assert authors.option(VAE).flop - authors.option(VAE_CLIP).flop == pytest.approx(flops.clip / 2)
    assert authors.option(NOTHING).flop - authors.option(VAE).flop == pytest.approx(flops.vae_encode)
    assert authors.option(VAE_CLIP).flop == flops.step + flops.text


def test_checkpointing_computes_the_forward_pass_twice(sd15):
    more = planned(GIVEN, "engine.gradient_checkpointing=true").option(NOTHING).flop - planned().option(NOTHING).flop
    assert more == pytest.approx(flops_of(sd15).forward)


@pytest.mark.parametrize(
    ("ranks", "by_stage"),
    [
        (1, (7.03, 7.03, 7.03, 7.03)),
        (2, (7.03, 4.40, 3.96, 3.52)),
        (8, (7.03, 2.42, 1.65, 0.88)),
        (64, (7.03, 1.84, 0.98, 0.11)),
    ],
)
def test_memory_is_the_zero_papers(ranks, by_stage):
    assert [memory_per_rank(P, ranks, stage, "bf16", ema=False) / 1e9 for stage in range(4)] == pytest.approx(
        list(by_stage), abs=0.005
    )
    assert memory_per_rank(P, ranks, 0, "fp32", ema=True) == 20 * P


def test_frozen_parts_are_held_until_they_are_cached(sd15):
    sizes, found = sizes_of(sd15), planned(replace(GIVEN, gpus=8))
    frozen = [option.frozen[2] / 1e9 for option in found.options]
    assert frozen[0] == pytest.approx(3.3, abs=0.05)
    assert frozen[0] - frozen[1] == pytest.approx(2 * sizes.vae_encoder / 1e9)
    assert frozen[1] - frozen[2] == pytest.approx(2 * sizes.image_encoder / 1e9)
    divided = found.option(NOTHING).frozen[2] - found.option(NOTHING).frozen[3]
    assert divided == pytest.approx(2 * sizes.unet * 7 / 8)


def test_traffic_is_a_reduction_and_a_gathering_and_stage_3_gathers_more():
    assert traffic_per_step(P, 0, 10**6, 2, "bf16", passes=1) / 1e9 == pytest.approx(1.76, abs=0.01)
    assert traffic_per_step(P, 0, 1, 2, "bf16", passes=4) == 0
    by_passes = [traffic_per_step(P, 0, 8, stage, "bf16", passes=4) for stage in (1, 2, 3)]
    assert by_passes[0] == traffic_per_step(P, 0, 8, 1, "bf16", passes=1)
    assert by_passes[0] < by_passes[1] < by_passes[2] < traffic_per_step(P, P, 8, 3, "bf16", passes=4)
    seconds = planned(replace(GIVEN, gpus=64, network_gbits=100)).traffic_seconds
    assert seconds == pytest.approx(0.14, abs=0.005)


def verdicts(*changes, **given):
    return [verdict.cache for verdict in planned(replace(GIVEN, **given), *changes).verdicts]


def test_the_verdict_is_another_when_storage_is_slow_epochs_are_few_or_gpus_are_dear():
    assert verdicts() == [VAE, VAE]
    assert verdicts("steps=2000") == [NOTHING, NOTHING]
    slow = planned(replace(GIVEN, storage_gbs=0.002))
    assert {option.speeds[0].bottleneck for option in slow.options} == {"storage"}
    assert [verdict.cache for verdict in slow.verdicts] == [NOTHING, NOTHING]
    assert "VAE (275.3 GB) makes no epoch shorter, storage would be the limit" in slow.verdicts[0].reason
    assert verdicts(price=40.0) == [VAE_CLIP, VAE_CLIP]
    # fast enough for the moments, too slow for the features
    between = planned(replace(GIVEN, storage_gbs=0.02, price=40.0))
    assert between.option(VAE_CLIP).speeds[0].bottleneck == "storage"
    assert [verdict.cache for verdict in between.verdicts] == [VAE, VAE]


def test_a_verdict_says_why():
    few = planned(GIVEN, "steps=2000").verdicts[0].reason
    assert "VAE (275.3 GB) adds" in few and "in 0.12 epochs, and pays back after 1.2" in few
    many = planned().verdicts[0].reason
    assert "VAE (275.3 GB) saves" in many and "VAE + CLIP (2.8 TB more) would" in many


def test_too_few_loader_cores_are_the_limit_and_are_counted():
    starved = replace(GIVEN, cores=1, decode_rate=10.0)
    speed = planned(starved).option(NOTHING).speeds[0]
    assert (speed.bottleneck, speed.images_per_second) == ("loader cores", 10.0)
    assert speed.cores_needed == pytest.approx(2.28, abs=0.01)
    assert planned(starved).option(VAE_CLIP).speeds[0].images_per_second == pytest.approx(10 * 303 / 155)


@pytest.mark.parametrize(
    ("field", "values", "speed", "cost"),
    [
        ("gpus", (1, 2, 8, 64), 1, 0),
        ("peak", (A100 / 8, A100, H100), 1, -1),
        ("storage_gbs", (0.001, 0.01, 0.1, 10.0), 1, -1),
        ("cores", (1, 2, 8), 1, -1),
        ("decode_rate", (1.0, 10.0, 100.0), 1, -1),
        ("price", (0.5, 2.0, 20.0), 0, 1),
        ("storage_price", (0.0, 0.02, 0.2), 0, 1),
        ("months", (0.0, 1.0, 12.0), 0, 1),
        ("sample_bytes", (1e4, 1e6, 1e8), -1, 1),
    ],
)
def test_every_option_goes_one_way(field, values, speed, cost):
    slow = replace(GIVEN, decode_rate=10.0)  # or one core would be enough
    plans = [planned(replace(slow, **{field: value})) for value in values]
    for option in range(3):
        for at in range(2):
            speeds = [found.options[option].speeds[at] for found in plans]
            _goes([each.images_per_second for each in speeds], speed)
            if cost:
                _goes([each.cost for each in speeds], cost)
    changed = [(found.options[1].speeds[0].cost, found.options[1].speeds[0].images_per_second) for found in plans]
    assert changed[0] != changed[-1]


def _goes(values, direction):
    for before, after in zip(values, values[1:], strict=False):
        if direction == 0:
            assert after == pytest.approx(before)
        else:
            assert (after - before) * direction >= -1e-9 * abs(before)


def test_higher_utilisation_is_never_slower_and_more_samples_are_fewer_epochs():
    found = planned(replace(GIVEN, utilisation=(0.1, 0.3, 0.4, 0.9, 1.0)))
    for option in found.options:
        _goes([speed.images_per_second for speed in option.speeds], 1)
        _goes([speed.cost for speed in option.speeds], -1)
    assert planned(replace(GIVEN, samples=100_000)).epochs == pytest.approx(512)
    assert found.epochs == pytest.approx(200_000 * 256 / 4_200_000)


def test_without_a_peak_nothing_is_said_about_speed():
    found = planned(Assumptions(gpus=1))
    assert found.verdicts == () and all(option.speeds == () for option in found.options)
    assert found.option(VAE).flop > found.option(VAE_CLIP).flop and found.memory[2] > 0


@pytest.mark.parametrize(
    ("field", "value"),
    [("gpus", 0), ("price", 0.0), ("utilisation", ()), ("utilisation", (1.2,)), ("peak", -1.0), ("months", -1.0),
     ("storage_gbs", 0.0), ("cache_dtype", "int8")],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_name(field, value):
    with pytest.raises(PlanError, match=field):
        replace(GIVEN, **{field: value})
