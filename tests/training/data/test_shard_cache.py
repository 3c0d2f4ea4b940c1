"""The cache of shards: bounded, shared, verified; a killed process leaves nothing that does harm."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest

from common.hashing import sha256_of_bytes
from tests.training.made.small_shards import FORK, until
from training.data.folder import ShardError
from training.data.shard_cache import ShardCache

SIZE = 1000


pytestmark = pytest.mark.usefixtures("no_long_waits")


def content(number: int) -> bytes:
    return bytes([number % 256]) * SIZE


def key(number: int) -> str:
    return sha256_of_bytes(content(number))


def bring(cache: ShardCache, number: int, *, fetched: list | None = None, data: bytes | None = None, wait=True) -> bool:
    def fetch(path: Path) -> None:
        if fetched is not None:
            fetched.append(number)
        path.write_bytes(content(number) if data is None else data)

    return cache.fetch(key(number), SIZE, key(number), f"s3://made/{number}.tar", fetch, wait=wait)


def numbers(root: Path) -> set[int]:
    return {path.read_bytes()[0] for path in root.glob("shards/*.tar")}


def test_it_is_brought_once_and_the_least_recently_used_goes(tmp_path):
    cache, fetched = ShardCache(tmp_path, 3 * SIZE), []
    for number in (1, 2, 3, 1, 2, 3, 1, 4):
        assert bring(cache, number, fetched=fetched)
        assert cache.used() <= 3 * SIZE
    assert fetched == [1, 2, 3, 4]
    assert numbers(tmp_path) == {3, 1, 4}
    assert cache.path(key(4)).read_bytes() == content(4)


def test_what_is_pinned_stays(tmp_path):
    cache, other = ShardCache(tmp_path, 3 * SIZE), ShardCache(tmp_path, 3 * SIZE, patience=0.3)
    cache.pin([key(1), key(2)])
    for number in (1, 2, 3, 4, 5):
        bring(other, number)
        assert {1, 2} & numbers(tmp_path) == {1, 2} & set(range(number + 1))
    other.pin([key(5)])
    assert not bring(other, 6, wait=False)
    assert numbers(tmp_path) == {1, 2, 5}, "nothing is removed for what does not fit anyway"
    message = "no room for s3://made/6.tar: 1,000 bytes more are needed, and all of cache_bytes (3,000) is in use"
    with pytest.raises(ShardError, match=re.escape(message)):
        bring(other, 6)
    cache.pin([key(2)])
    assert bring(other, 6) and numbers(tmp_path) == {2, 5, 6}
    cache.close()
    assert bring(other, 7) and numbers(tmp_path) == {5, 6, 7}


def test_a_reader_waits_until_another_lets_go(tmp_path):
    cache, other = ShardCache(tmp_path, SIZE), ShardCache(tmp_path, SIZE)
    cache.pin([key(1)])
    bring(cache, 1)
    done = threading.Event()
    waiting = threading.Thread(target=lambda: bring(other, 2) and done.set(), daemon=True)
    waiting.start()
    assert not done.wait(0.3)
    cache.pin([])
    assert done.wait(10) and numbers(tmp_path) == {2}
    waiting.join()


def test_a_shard_larger_than_the_cache_is_refused(tmp_path):
    with pytest.raises(
        ShardError, match=re.escape("s3://made/1.tar has 1,000 bytes, cache_bytes is 999: set it to more")
    ):
        bring(ShardCache(tmp_path, SIZE - 1), 1)


def test_other_bytes_are_refused_with_both_hashes(tmp_path):
    cache, fetched = ShardCache(tmp_path, 2 * SIZE), []
    wrong = content(9)
    message = f"s3://made/1.tar: downloaded twice, its sha256 is {key(9)}, its sidecar says {key(1)}"
    with pytest.raises(ShardError, match=re.escape(message)):
        bring(cache, 1, fetched=fetched, data=wrong)
    assert fetched == [1, 1]
    assert list((tmp_path / "shards").iterdir()) == []
    assert bring(cache, 1)


def test_damage_on_the_way_is_mended_by_asking_again(tmp_path):
    cache, tries = ShardCache(tmp_path, 2 * SIZE), []

    def fetch(path: Path) -> None:
        tries.append(path)
        path.write_bytes(content(9 if len(tries) == 1 else 1))

    assert cache.fetch(key(1), SIZE, key(1), "x", fetch, wait=True)
    assert numbers(tmp_path) == {1}


def test_a_shard_without_a_hash_is_checked_by_its_size(tmp_path):
    tries = []

    def fetch(path: Path) -> None:
        tries.append(path)
        path.write_bytes(content(1)[: 500 if len(tries) == 1 else SIZE])

    assert ShardCache(tmp_path, SIZE).fetch("foreign", SIZE, "", "x", fetch, wait=True)
    assert numbers(tmp_path) == {1} and len(tries) == 2


@pytest.mark.parametrize("error", [OSError("reset"), TimeoutError("late"), RuntimeError("of some filesystem")])
def test_an_io_error_is_tried_again_then_stops(tmp_path, error):
    cache, tries = ShardCache(tmp_path, 2 * SIZE), []

    def fetch(path: Path) -> None:
        tries.append(path)
        if len(tries) not in (3, 9):
            raise error
        path.write_bytes(content(1)[: 500 if len(tries) == 3 else SIZE])  # the third is cut short

    with pytest.raises(ShardError, match=f"x: tried 5 times: {type(error).__name__}: {error}"):
        cache.fetch(key(1), SIZE, key(1), "x", fetch, wait=True)
    assert cache.fetch(key(1), SIZE, key(1), "x", fetch, wait=True) and len(tries) == 9


def test_what_does_not_heal_is_not_tried_again(tmp_path):
    tries = []

    def fetch(path: Path) -> None:
        tries.append(path)
        raise FileNotFoundError("gone")

    with pytest.raises(ShardError, match="x: FileNotFoundError: gone"):
        ShardCache(tmp_path, 2 * SIZE).fetch(key(1), SIZE, key(1), "x", fetch, wait=True)
    assert len(tries) == 1


# -- several processes ----------------------------------------------------------------------------------------------


def reader(root: Path, limit: int, wanted: list[int], log: str, barrier) -> None:
    """Pins, brings and reads; writes down what it downloaded."""
    cache = ShardCache(root, limit)
    barrier.wait()
    fetched: list[int] = []
    for number in wanted:
        cache.pin([key(number)])
        bring(cache, number, fetched=fetched)
        assert cache.path(key(number)).read_bytes() == content(number), "removed while in use"
        assert cache.used() <= limit
    Path(log).write_text(" ".join(map(str, fetched)))


def test_processes_share_it(tmp_path):
    root, barrier = tmp_path / "cache", FORK.Barrier(3)
    started = [
        FORK.Process(
            target=reader, args=(root, 20 * SIZE, list(range(20)), str(tmp_path / f"log-{n}"), barrier), daemon=True
        )
        for n in range(3)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(60)
        assert process.exitcode == 0
    fetched = " ".join((tmp_path / f"log-{n}").read_text() for n in range(3)).split()
    assert sorted(map(int, fetched)) == list(range(20)), "each is downloaded once"


def test_processes_that_need_more_than_there_is_room_for_stay_within_it(tmp_path):
    """Three readers walk over twelve shards in different orders; three have room."""
    root, barrier = tmp_path / "cache", FORK.Barrier(3)
    walks = [[(3 * k * (n + 1) + n) % 13 for k in range(40)] for n in range(3)]
    started = [
        FORK.Process(target=reader, args=(root, 3 * SIZE, walk, str(tmp_path / f"log-{n}"), barrier), daemon=True)
        for n, walk in enumerate(walks)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(60)
        assert process.exitcode == 0


def stuck(root: Path, ready: str) -> None:
    cache = ShardCache(root, 2 * SIZE)
    cache.pin([key(1), key(2)])
    bring(cache, 1)

    def fetch(path: Path) -> None:
        path.write_bytes(content(2)[:500])
        Path(ready).touch()
        time.sleep(600)

    cache.fetch(key(2), SIZE, key(2), "x", fetch, wait=True)


def test_killed_in_mid_download(tmp_path):
    """Half a file, room set aside, two pins, two locks: none outlives the process."""
    root, ready = tmp_path / "cache", tmp_path / "ready"
    process = FORK.Process(target=stuck, args=(root, str(ready)), daemon=True)
    process.start()
    until(ready.exists)
    cache = ShardCache(root, 2 * SIZE, patience=10)
    assert cache.used() == 2 * SIZE
    assert not bring(cache, 2, wait=False), "another process is at it"
    assert not bring(cache, 3, wait=False), "all is pinned or set aside"
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert len(list(root.glob("shards/*.partial"))) == 1
    assert bring(cache, 3) and bring(cache, 4)
    assert numbers(root) == {3, 4}, "the room that was set aside is free again"
    assert bring(cache, 2) and numbers(root) == {2, 4} and cache.used() == 2 * SIZE
    assert not list(root.glob("shards/*.partial")) and not list(root.glob("pins/*"))


def child_of_a_fork(started, release) -> None:
    started.set()
    release.wait()


def test_a_childs_life_does_not_hold_the_parents_pins(tmp_path):
    """A loader's worker that outlives a trainer (or was forked for something else) keeps no shard."""
    cache = ShardCache(tmp_path, SIZE)
    cache.pin([key(1)])
    bring(cache, 1)
    started, release = FORK.Event(), FORK.Event()
    child = FORK.Process(target=child_of_a_fork, args=(started, release), daemon=True)
    child.start()
    assert started.wait(20)
    other = ShardCache(tmp_path, SIZE)
    assert not bring(other, 2, wait=False)
    cache.close()
    assert bring(other, 2, wait=False), "the child still holds the parent's pins"
    release.set()
    child.join()
