"""Which sample is seen when: every sample once an epoch but a declared tail, the same at any world size, for ever."""

from __future__ import annotations

import hashlib
import re
import time
import tracemalloc
from collections import Counter

import numpy as np
import pytest

from training.data.draws import keyed_permutation, keyed_seed
from training.data.order import Order, Window
from training.layout import check_layout


def divisors(n: int) -> list[int]:
    return [k for k in range(1, n + 1) if n % k == 0]


def random_layout(number: int) -> Order:
    """Uneven shards, some empty, sometimes only one; more lanes (so ranks) than shards; B up to N itself."""
    draw = np.random.default_rng(number)
    shards = int(draw.choice([1, 2, 3, 7, 20, 60]))
    counts = draw.integers(0, draw.choice([3, 30, 120]), shards)
    counts[draw.integers(shards)] += 1
    lanes = int(draw.choice([n for n in (1, 2, 3, 4, 6, 8, 12, 16) if n <= counts.sum()]))
    most = int(counts.sum()) // lanes
    lane_batch = most if draw.random() < 0.15 else int(draw.integers(1, min(most, 9) + 1))
    return Order(counts, seed=number, lanes=lanes, batch=lanes * lane_batch, window=int(draw.integers(1, 6)))


def steps(order: Order, epoch: int) -> range:
    return range(epoch * order.steps_per_epoch, (epoch + 1) * order.steps_per_epoch)


def batch(order: Order, t: int) -> list[tuple[int, int]]:
    """(shard, position) of step `t`, by slot."""
    return pairs(*order.slots(t, range(order.batch_size)))


def windows(order: Order, epoch: int, lane: int) -> list[Window]:
    """All windows of a lane, the few samples of its last ones that no step sees included."""
    return [order._window(epoch, lane, number) for number in range(len(order._starts(epoch, lane)) - 1)]


def pairs(shards: np.ndarray, positions: np.ndarray) -> list[tuple[int, int]]:
    return list(zip(shards.tolist(), positions.tolist(), strict=True))


@pytest.mark.parametrize("number", range(200))
def test_every_sample_once_an_epoch_but_the_tail(number):
    order = random_layout(number)
    everything = Counter((shard, place) for shard, n in enumerate(order.counts.tolist()) for place in range(n))
    for epoch in (0, 1, 5):
        seen = Counter(sample for t in steps(order, epoch) for sample in batch(order, t))
        assert seen <= everything
        assert (everything - seen).total() == order.samples % order.batch_size


@pytest.mark.parametrize("number", range(200))
def test_ranks_and_workers_only_slice_the_order(number):
    """Any world size and any number of loader workers: the same batches, each slot once, every rank as many."""
    order = random_layout(number)
    draw = np.random.default_rng(number)
    world = int(draw.choice(divisors(order.lanes)))
    share = order.batch_size // world
    micro = int(draw.choice(divisors(share)))
    accumulation, workers = share // micro, int(draw.integers(1, 4))
    check_layout(
        batch=order.batch_size, micro=micro, accumulation=accumulation, world=world, lanes=order.lanes,
        samples=order.samples,
    )  # fmt: skip
    t = int(draw.integers(3 * order.steps_per_epoch))
    expected = batch(order, t)
    got: dict[int, tuple[int, int]] = {}
    lanes: list[int] = []
    for rank in range(world):
        lanes += order.lanes_of(rank, world)
        for worker in range(workers):
            for step in range(worker, accumulation, workers):
                slots = order.slots_of(rank, world, micro, step)
                assert len(slots) == micro
                assert set((slots % order.lanes).tolist()) <= set(order.lanes_of(rank, world))
                found = dict(zip(slots.tolist(), pairs(*order.slots(t, slots)), strict=True))
                assert not found.keys() & got.keys()
                got |= found
    assert [got[i] for i in range(order.batch_size)] == expected
    assert lanes == list(range(order.lanes))


@pytest.mark.parametrize("number", range(200))
def test_a_lane_needs_its_window_and_the_one_that_follows(number):
    """What `shards_needed` names is all that the step reads; what it names second is what is read next."""
    order = random_layout(number)
    for lane in range(min(order.lanes, 3)):
        seen = [shard for t in range(2 * order.steps_per_epoch) for shard in lane_shards(order, t, lane)]
        for t in range(order.steps_per_epoch):
            now, then = order.shards_needed(t, lane)
            assert now and then
            assert max(len(now), len(then)) <= order.window_shards
            assert set(lane_shards(order, t, lane)) <= {*now, *then}
            # in the order of first use, from here on
            ahead = list(dict.fromkeys(seen[t * order.lane_batch :]))
            assert now == ahead[: len(now)]
            assert set(then) - set(now) <= set(ahead[: len({*now, *then})])


def lane_shards(order: Order, t: int, lane: int) -> list[int]:
    return order.slots(t, np.arange(lane, order.batch_size, order.lanes))[0].tolist()


@pytest.mark.parametrize("number", range(0, 200, 5))
def test_lanes_are_parts_of_the_list_and_windows_are_parts_of_lanes(number):
    order = random_layout(number)
    seen: Counter = Counter()
    for lane in range(order.lanes):
        of_lane = windows(order, 1, lane)
        assert [w.start for w in of_lane] == [0, *(w.end for w in of_lane[:-1])]
        assert of_lane[-1].end == order.lane_samples
        for window in of_lane:
            seen.update(pairs(window.shards, window.positions))
            assert len(np.unique(window.shards)) <= order.window_shards
        assert all(len(w.shards) >= order.lane_batch for w in of_lane[:-1])
    assert max(seen.values()) == 1 and seen.total() == order.samples - order.samples % order.lanes


def test_a_shard_on_a_boundary_is_read_by_two_lanes_others_by_one():
    order = Order([50] * 40, seed=0, lanes=4, batch=8, window=3)
    lanes = [{int(s) for w in windows(order, 0, lane) for s in np.unique(w.shards)} for lane in range(4)]
    assert sum(len(one) for one in lanes) - len(set.union(*lanes)) <= 4


def test_the_order_is_for_ever():
    """If this fails after an upgrade, the upgrade reordered every run that is to be resumed: mend it, do not move it."""
    order = Order([5, 3, 0, 4, 6], seed=7, lanes=2, batch=4, window=2)
    assert order.steps_per_epoch == 4
    assert [" ".join(f"{s}.{p}" for s, p in batch(order, t)) for t in (0, 1, 2, 3, 4, 7, 4_000_000)] == GOLDEN
    assert keyed_permutation(12, 7, "window", 0, 1, 2).tolist() == GOLDEN_PERMUTATION


GOLDEN = [
    "4.3 3.3 4.4 0.3",
    "1.0 0.1 4.5 0.4",
    "1.1 0.2 1.2 0.0",
    "3.1 4.2 3.2 4.1",
    "3.3 1.0 0.1 1.1",
    "0.4 4.5 4.0 3.0",
    "3.3 0.4 4.3 0.1",
]
GOLDEN_PERMUTATION = [2, 0, 1, 8, 3, 10, 11, 7, 9, 6, 4, 5]


def test_draws_are_for_ever():
    by_hand = hashlib.blake2b(b"42/noise/1000/3", digest_size=8).digest()
    assert keyed_seed(42, "noise", 1000, 3) == int.from_bytes(by_hand, "little") == 4321332628668352943
    assert keyed_seed(42, "noise", np.int64(1000), np.int32(3)) == keyed_seed(42, "noise", 1000, 3)


def test_draws_differ_in_everything_that_keys_them():
    keys = [
        (s, name, t, i) for s in range(6) for name in ("noise", "timestep", "a/1") for t in range(40) for i in range(20)
    ]
    values = np.array([keyed_seed(*key) for key in keys], dtype=np.uint64)
    assert len(np.unique(values)) == len(keys)
    bits = np.unpackbits(values.view(np.uint8).reshape(len(keys), 8), axis=1)
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 5 * 0.5 / np.sqrt(len(keys))  # five standard deviations


def test_where_one_is_does_not_depend_on_how_one_came_there():
    counts = np.random.default_rng(0).integers(20, 90, 30)
    walked = Order(counts, seed=3, lanes=8, batch=32, window=4)
    expected = [batch(walked, t) for t in range(3 * walked.steps_per_epoch)]
    jumped = Order(counts, seed=3, lanes=8, batch=32, window=4)
    for t in np.random.default_rng(1).permutation(len(expected)).tolist():
        assert batch(jumped, t) == expected[t]
    assert expected[0] != expected[walked.steps_per_epoch]
    assert expected[0] != batch(Order(counts, seed=4, lanes=8, batch=32, window=4), 0)


def test_another_tail_in_each_epoch():
    """Also of one single shard, where the permutation of shards moves nothing."""
    order = Order([103], seed=0, lanes=4, batch=20, window=4)
    seen = Counter(sample for t in range(400 * order.steps_per_epoch) for sample in batch(order, t))
    dropped = {position: 400 - seen[0, position] for position in range(103)}
    assert sum(dropped.values()) == 400 * 3 and min(dropped.values()) > 0
    assert max(dropped.values()) < 40  # 11.7 on average


def test_the_shuffle_is_one():
    """Over enough windows of enough shards, where a sample is seen says nothing about where it stands."""
    order = Order([100] * 200, seed=5, lanes=4, batch=40, window=10)
    seen = np.concatenate([s * 100 + p for s, p in (order.slots(t, range(40)) for t in steps(order, 0))])
    n = len(seen)
    assert abs(np.abs(seen - np.arange(n)).mean() / n - 1 / 3) < 0.04  # of a uniform permutation: a third
    one_lane = seen.reshape(-1, 4)[:, 0]
    neighbours = np.abs(np.diff(one_lane // 100)) == 0
    assert neighbours.mean() < 0.13  # same shard twice in a row: 1 in 10 in a window of ten shards
    inside = one_lane[:1000] % 100
    assert abs(np.corrcoef(inside[:-1], inside[1:])[0, 1]) < 0.1
    assert abs(np.corrcoef(inside, np.arange(1000))[0, 1]) < 0.1
    alone = Order([100] * 200, seed=5, lanes=4, batch=40, window=1)
    assert np.mean(np.diff(windows(alone, 0, 0)[0].shards) == 0) == 1


def test_permutations_are_uniform():
    found = Counter(tuple(keyed_permutation(4, 0, "window", n).tolist()) for n in range(4800))
    assert len(found) == 24 and 120 < min(found.values()) and max(found.values()) < 290  # 200 each, 5.7 sigma
    for n in (0, 1, 2, 255, 256, 257, 10_000):
        assert sorted(keyed_permutation(n, 1, "shards", 0).tolist()) == list(range(n))


def test_millions_of_samples_are_a_few_arrays():
    """4.2 million samples in 10,000 shards: no lists, and a rank's share of any step within milliseconds."""
    counts = np.random.default_rng(0).integers(380, 461, 10_000)
    tracemalloc.start()
    order = Order(counts, seed=1, lanes=64, batch=512, window=16)
    mine = order.slots_of(3, 8, 8, 0)
    order.slots(0, mine)
    seconds = []
    for t in np.random.default_rng(1).integers(order.steps_per_epoch, size=30).tolist():
        before = time.perf_counter()
        order.slots(t, mine)
        seconds.append(time.perf_counter() - before)
    assert tracemalloc.get_traced_memory()[1] < 8_000_000
    tracemalloc.stop()
    assert np.median(seconds) < 0.05  # 2 ms on an idle core


@pytest.mark.parametrize(
    ("counts", "settings", "message"),
    [
        ([3, 4], {"lanes": 2, "batch": 8}, "7 samples do not fill one batch of 8"),
        ([], {"lanes": 1, "batch": 1}, "0 samples do not fill"),
        ([9], {"lanes": 2, "batch": 5}, "2 lanes do not divide a batch of 5"),
        ([9, -1], {"lanes": 1, "batch": 1}, "none below 0"),
        ([9], {"lanes": 0, "batch": 1}, "must be at least 1"),
    ],
)
def test_no_order_without_samples_for_it(counts, settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Order(counts, seed=0, window=2, **settings)


def test_no_place_outside_the_order():
    order = Order([9], seed=0, lanes=2, batch=4, window=2)
    for call in (
        lambda: order.slots(-1, [0]), lambda: order.slots(0, [4]), lambda: order.lanes_of(2, 2), lambda: order.lanes_of(0, 3),
        lambda: order.slots_of(0, 1, 3, 0), lambda: order.slots_of(0, 1, 2, 2),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"."):
            call()
