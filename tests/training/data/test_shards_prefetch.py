"""Shards that are there before they are asked for, in a cache that holds no byte more than it may."""

from __future__ import annotations

import contextlib
import os
import re

import pytest

from tests.training.made.small_shards import FORK, all_read, expected, held, until
from training.data.folder import ShardError
from training.data.index import read_index
from training.data.order import Order
from training.data.shard_cache import ShardCache
from training.data.shards import Shards

pytestmark = pytest.mark.usefixtures("no_long_waits")


def following(url, cache) -> tuple[Shards, Order]:
    """A reader at step 0 of one lane, and what it follows."""
    index = read_index(url, cache)
    order = Order(index.counts, seed=0, lanes=1, batch=1, window=2)
    shards = Shards(index, cache)
    shards.follow(order, [0])
    shards.advance(0)
    return shards, order


def sample_at(order: Order, t: int, slot: int) -> tuple[int, int]:
    shards, positions = order.slots(t, [slot])
    return int(shards[0]), int(positions[0])


def test_the_next_window_is_there_before_it_is_asked_for(web, tmp_path):
    index = read_index(web.url, tmp_path)
    order = Order(index.counts, seed=0, lanes=2, batch=2, window=1)
    shards = Shards(index, tmp_path)
    web.asked.clear()
    shards.follow(order, [1])
    seen = set()
    for t in range(2 * order.steps_per_epoch):
        shards.advance(t)
        now, then = order.shards_needed(t, 1)
        seen.update(now, then)
        until(lambda: all(shards.cache.path(index.sha256[s]).exists() for s in {*now, *then}))  # noqa: B023
        got = dict(web.asked)
        assert shards.read(*sample_at(order, t, 1)) == expected(*sample_at(order, t, 1))
        assert web.asked == got, "it was brought before it was read"
    assert set(web.asked) == {index.names[s] for s in seen}, "nothing else is brought"
    shards.close()


def test_a_resumed_run_brings_its_window_first_and_none_before(web, tmp_path):
    index = read_index(web.url, tmp_path)
    order = Order(index.counts, seed=3, lanes=1, batch=1, window=2)
    shards = Shards(index, tmp_path)
    t = order._window(0, 0, 1).end - 1
    now, then = order.shards_needed(t, 0)
    assert len(now) == 1 and len(then) == 2
    web.asked.clear()
    shards.follow(order, [0])
    shards.advance(t)
    until(lambda: sum(web.asked.values()) == len({*now, *then}))
    assert {index.names[s] for s in {*now, *then}} == set(web.asked)
    assert next(iter(web.asked)) in {index.names[now[0]], index.names[then[0]]}  # two threads
    shards.close()


def walk(shards: Shards, order: Order, lanes: list[int], limit: int) -> None:
    shards.follow(order, lanes, range(order.lanes))
    for t in range(2 * order.steps_per_epoch):
        shards.advance(t)
        for i in range(order.batch_size):
            if i % order.lanes in lanes:
                place = sample_at(order, t, i)
                assert shards.read(*place) == expected(*place)
        assert shards.cache.used() <= limit
    shards.close()


def test_ranks_with_the_least_cache_that_is_allowed(web, tmp_path):
    """Two processes of a node, a lane each, at their own pace; room for two windows of each lane and no byte more."""
    index = read_index(web.url, tmp_path)
    order = Order(index.counts, seed=1, lanes=2, batch=2, window=1)
    needed = Shards(index, tmp_path).bytes_needed(order, range(2))
    assert needed < index.bytes.sum()
    shards = Shards(index, tmp_path, cache_bytes=needed, patience=30)
    started = [FORK.Process(target=walk, args=(shards, order, [lane], needed), daemon=True) for lane in range(2)]
    for process in started:
        process.start()
    for process in started:
        process.join(60)
        assert process.exitcode == 0


def test_a_cache_that_cannot_hold_two_windows_is_refused(web, tmp_path):
    index = read_index(web.url, tmp_path)
    order = Order(index.counts, seed=1, lanes=2, batch=2, window=1)
    needed = Shards(index, tmp_path).bytes_needed(order, range(2))
    shards = Shards(index, tmp_path, cache_bytes=needed - 1)
    message = f"two windows of up to {order.window_shards} shards for each of this machine's 2 lanes need {needed:,}"
    with pytest.raises(ShardError, match=re.escape(message)):
        shards.follow(order, [0], [0, 1])
    with pytest.raises(ValueError, match="the order is of other shards"):
        shards.follow(Order([9], seed=0, lanes=1, batch=1, window=1), [0])
    with pytest.raises(ValueError, match="follow an order first"):
        shards.advance(0)


def test_a_reader_that_follows_nothing_needs_room_for_one_shard(web, tmp_path):
    """Its own files, open in case, are not what it waits for."""
    index = read_index(web.url, tmp_path)
    shards = Shards(index, tmp_path, cache_bytes=int(index.bytes.max()), patience=5)
    all_read(shards)
    assert held(tmp_path) <= index.bytes.max()


def test_a_reader_that_follows_nothing_keeps_one_file_open(web, tmp_path):
    """What is open cannot be given back to the disk, whoever removed it."""
    shards = Shards(read_index(web.url, tmp_path), tmp_path)
    assert shards.read(0, 0)
    before = len([path for path in open_files() if path.startswith(str(tmp_path / "shards"))])
    all_read(shards)
    after = [path for path in open_files() if path.startswith(str(tmp_path / "shards"))]
    assert len(after) == before == 1


def open_files() -> list[str]:
    paths = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself
            paths.append(os.readlink(f"/proc/self/fd/{name}"))
    return paths


def test_what_is_wanted_soon_is_pinned(web, tmp_path):
    shards, order = following(web.url, tmp_path)
    index = shards.index
    wanted = {*order.shards_needed(0, 0)[0], *order.shards_needed(0, 0)[1]}
    until(lambda: all(shards.cache.path(index.sha256[s]).exists() for s in wanted))
    other = ShardCache(tmp_path, shards.cache.used())
    assert not other.fetch("another", 1000, "", "x", lambda path: path.write_bytes(b"x" * 1000), wait=False)
    shards.close()
    assert other.fetch("another", 1000, "", "x", lambda path: path.write_bytes(b"x" * 1000), wait=False)


def test_a_fork_follows_by_itself(folder, tmp_path):
    shards, order = following(folder, tmp_path)
    child = FORK.Process(target=follows_by_itself, args=(shards, order), daemon=True)
    child.start()
    child.join(60)
    assert child.exitcode == 0
    shards.close()


def follows_by_itself(shards: Shards, order: Order) -> None:
    with pytest.raises(ValueError, match="a fork inherits none"):
        shards.advance(0)
    walk_locally(shards, order)


def walk_locally(shards: Shards, order: Order) -> None:
    shards.follow(order, [0])
    for t in range(order.steps_per_epoch):
        shards.advance(t)
        assert shards.read(*sample_at(order, t, 0)) == expected(*sample_at(order, t, 0))
    shards.close()


def test_bringing_ahead_that_fails_is_told_by_the_read(web, tmp_path, caplog):
    index = read_index(web.url, tmp_path)
    order = Order(index.counts, seed=0, lanes=1, batch=1, window=1)
    shards = Shards(index, tmp_path)
    bad = order.shards_needed(0, 0)[1][0]
    web.fail[index.names[bad]] = 10**9
    shards.follow(order, [0])
    shards.advance(0)
    until(lambda: "not brought ahead" in caplog.text and index.names[bad] in caplog.text)
    with pytest.raises(ShardError, match=index.names[bad]):
        shards.read(bad, 0)
    web.fail.clear()
    assert shards.read(bad, 0) == expected(bad, 0)
    shards.close()


def test_local_shards_are_hashed_ahead(folder, tmp_path):
    shards, order = following(folder, tmp_path)
    needed = {*order.shards_needed(0, 0)[0], *order.shards_needed(0, 0)[1]}
    until(
        lambda: sum(1 for path in (tmp_path / "verified").glob("*") if not path.name.endswith(".lock")) == len(needed)
    )
    shards.close()
