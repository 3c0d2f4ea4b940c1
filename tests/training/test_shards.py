"""Samples by (shard, position): in place on a disk, through the cache from S3 and from a web server, ahead of time."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import pickle
import re
import shutil
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
import s3fs

from tests.bucket import s3_bucket
from tests.training.loopback import serving
from tests.training.made_shards import make_shards, sample
from training import shards as shards_module
from training import source
from training.cache import ShardCache
from training.index import read_index
from training.order import Order
from training.shards import Shards
from training.source import CorruptSample, ShardError

COUNTS = [4, 1, 3, 5, 2, 4, 3, 4]
STARTS = [sum(COUNTS[:shard]) for shard in range(len(COUNTS))]
FORK = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def no_long_waits(monkeypatch):
    monkeypatch.setattr(source, "FIRST_WAIT", 0.01)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_shards(tmp_path_factory.mktemp("shards"), COUNTS, side=32)


@pytest.fixture
def copy(folder, tmp_path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


@pytest.fixture
def web(folder):
    with serving(folder) as server:
        yield server


@pytest.fixture(scope="module")
def bucket(folder):
    """The shards on a real S3 server."""
    with s3_bucket("faces-to-read"):
        fs = s3fs.S3FileSystem()
        for path in folder.iterdir():
            fs.put_file(str(path), f"faces-to-read/shards/{path.name}")
        yield "s3://faces-to-read/shards"


def expected(shard: int, position: int) -> dict[str, bytes]:
    return dict(sample(STARTS[shard] + position, side=32)[1])


def all_read(shards: Shards) -> None:
    for shard, count in enumerate(COUNTS):
        for position in range(count):
            assert shards.read(shard, position) == expected(shard, position)


def until(what, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.01)


def held(cache: Path) -> int:
    return sum(path.stat().st_size for path in cache.glob("shards/*"))


# -- a local folder -------------------------------------------------------------------------------------------------


def test_a_local_folder_is_read_in_place(folder, tmp_path):
    shards = Shards(read_index(folder, tmp_path), tmp_path)
    all_read(shards)
    all_read(pickle.loads(pickle.dumps(shards)))  # noqa: S301  our own
    assert not (tmp_path / "shards").exists()


def test_it_is_hashed_once(copy, tmp_path, monkeypatch):
    hashed = []
    real = source.sha256_of
    monkeypatch.setattr(source, "sha256_of", lambda path: hashed.append(path.name) or real(path))
    index = read_index(copy, tmp_path / "cache")
    all_read(Shards(index, tmp_path / "cache", verify="never"))
    assert hashed == []
    all_read(Shards(index, tmp_path / "cache"))
    all_read(Shards(index, tmp_path / "cache"))
    assert hashed == index.names
    os.utime(copy / "00003.tar")  # written again, perhaps with other bytes
    all_read(Shards(index, tmp_path / "cache"))
    assert hashed == [*index.names, "00003.tar"]


def spoil(path: Path, at: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(data)


def test_a_damaged_shard_stops_with_both_hashes(copy, tmp_path):
    index = read_index(copy, tmp_path / "cache")
    spoil(copy / "00000.tar", index.members(0, 1)["jpg"][0] + 10, b"\0\1\2\3")
    with pytest.raises(
        ShardError, match=rf"copy/00000\.tar: its sha256 is [0-9a-f]{{64}}, its sidecar says {index.sha256[0]}"
    ):
        Shards(index, tmp_path / "cache").read(0, 0)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xff" * 512, "no tar header (bad checksum)"),
        (b"\0" * 512, "no tar header (end of file header)"),
        (None, "the tar has "),
    ],
)
def test_a_sample_whose_header_is_not_what_the_index_says_is_corrupt_alone(copy, tmp_path, data, message):
    index = read_index(copy, tmp_path / "cache")
    at = index.members(0, 1)["txt"][0] - 512
    if data is None:  # a good header, of another member
        data = (copy / "00000.tar").read_bytes()[index.members(0, 2)["jpg"][0] - 512 :][:512]
    spoil(copy / "00000.tar", at, data)
    shards = Shards(index, tmp_path / "cache", verify="never")
    with pytest.raises(CorruptSample, match=rf"00000\.tar: sample {index.id(0, 1)}: \.txt: {re.escape(message)}"):
        shards.read(0, 1)
    assert shards.read(0, 0) == expected(0, 0) and shards.read(0, 2) == expected(0, 2)


def test_a_hole_is_a_corrupt_sample(copy, tmp_path):
    sidecar = json.loads((copy / "00002.json").read_text())
    sidecar["index"][1]["members"] = {}
    (copy / "00002.json").write_text(json.dumps(sidecar | {"revision": 1}))
    shards = Shards(read_index(copy, tmp_path / "cache"), tmp_path / "cache")
    with pytest.raises(CorruptSample, match=r"00002\.tar: sample \w+ was taken out"):
        shards.read(2, 1)
    assert shards.read(2, 2) == expected(2, 2)


@pytest.mark.parametrize("spoilt", ["gone", "grown", "cut"])
def test_a_shard_that_changed_since_the_start_stops_the_run(copy, tmp_path, spoilt):
    shards = Shards(read_index(copy, tmp_path / "cache"), tmp_path / "cache", verify="never")
    path = copy / "00000.tar"
    if spoilt == "gone":
        path.unlink()
    else:
        os.truncate(path, 100_000 if spoilt == "grown" else 1000)
    with pytest.raises(ShardError, match=r"00000\.tar"):
        shards.read(0, 0)
    assert shards.read(1, 0) == expected(1, 0)


def test_few_files_are_open(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(shards_module, "OPEN_FILES", 3)
    shards = Shards(read_index(folder, tmp_path), tmp_path)
    assert shards.read(0, 0)  # the index itself is open from its first use on
    before = len(os.listdir("/proc/self/fd")) - 1
    for _ in range(3):
        all_read(shards)
        assert len(os.listdir("/proc/self/fd")) <= before + 3
    shards.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert shards.read(0, 0) == expected(0, 0)


def test_threads_and_forks_read_what_they_asked_for(folder, tmp_path, monkeypatch):
    """With one file open at a time, threads close each other's files as they read."""
    monkeypatch.setattr(shards_module, "OPEN_FILES", 1)
    shards = Shards(read_index(folder, tmp_path), tmp_path)
    wrong: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(10):
                all_read(shards)
        except BaseException as error:
            wrong.append(error)
            raise

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    child = FORK.Process(target=all_read, args=(shards,), daemon=True)
    child.start()
    for thread in threads:
        thread.join(60)
    child.join(60)
    assert not wrong and child.exitcode == 0


def test_a_fork_does_not_keep_a_lock_that_its_parent_let_go(tmp_path):
    """A loader's worker is forked while a thread hashes: it would wait for itself."""
    lock = tmp_path / "lock"
    with source.locked(lock):
        child = FORK.Process(target=_lock_once, args=(lock,), daemon=True)
        child.start()
        assert child.is_alive()
    child.join(20)
    assert child.exitcode == 0


def _lock_once(path: Path) -> None:
    with source.locked(path):
        pass


# -- from elsewhere -------------------------------------------------------------------------------------------------


def test_from_a_bucket(bucket, folder, tmp_path):
    index = read_index(bucket, tmp_path)
    assert index.hash == read_index(folder, tmp_path / "other").hash
    shards = Shards(index, tmp_path, cache_bytes=int(index.bytes.max()) * 2)
    all_read(shards)
    assert 0 < held(tmp_path) <= 2 * index.bytes.max()
    child = FORK.Process(target=all_read, args=(shards,), daemon=True)
    child.start()
    child.join(60)
    assert child.exitcode == 0, "a connection does not survive a fork: the child makes its own"


def test_a_spoilt_bucket_is_refused_as_a_spoilt_folder_is(bucket, tmp_path):
    fs = s3fs.S3FileSystem()
    fs.copy("faces-to-read/shards/00000.tar", "faces-to-read/part/00000.tar")
    fs.copy("faces-to-read/shards/00000.json", "faces-to-read/part/00000.json")
    fs.copy("faces-to-read/shards/00001.tar", "faces-to-read/part/00001.tar")
    with pytest.raises(ShardError, match=re.escape("s3://faces-to-read/part: 00001.tar without its sidecar")):
        read_index("s3://faces-to-read/part", tmp_path)
    fs.pipe_file("faces-to-read/part/00001.tar.gz", b"x")
    with pytest.raises(ShardError, match=re.escape("s3://faces-to-read/part: 00001.tar.gz is compressed")):
        read_index("s3://faces-to-read/part", tmp_path)


@pytest.mark.parametrize("lists", [True, False])
@pytest.mark.parametrize("ranges", [True, False])
def test_from_a_web_server(web, folder, tmp_path, lists, ranges):
    """Whether or not it lists the folder, and whether or not it gives parts of files."""
    web.lists, web.ranges = lists, ranges
    index = read_index(web.url, tmp_path)
    assert index.hash == read_index(folder, tmp_path / "other").hash
    web.asked.clear()
    shards = Shards(index, tmp_path)
    all_read(shards)
    all_read(Shards(index, tmp_path))
    assert web.asked == Counter(index.names), "each is downloaded once, whole"


def test_tars_of_another_maker_on_a_web_server(web, folder, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for path in folder.glob("*.tar"):
        shutil.copy(path, bare)
    with serving(bare) as server:
        index = read_index(server.url, tmp_path / "cache")
        assert index.foreign and index.counts.tolist() == COUNTS
        all_read(Shards(index, tmp_path / "cache"))
        server.asked.clear()
        all_read(Shards(read_index(server.url, tmp_path / "cache"), tmp_path / "cache"))
        assert set(server.asked) <= {"sizes.json"}


def test_a_server_that_fails_for_a_while(web, tmp_path):
    index = read_index(web.url, tmp_path)
    web.fail["00000.tar"] = 3
    shards = Shards(index, tmp_path)
    assert shards.read(0, 0) == expected(0, 0)
    web.fail["00001.tar"] = 99
    with pytest.raises(ShardError, match=re.escape(f"{web.url}/00001.tar: tried 5 times: ")):
        shards.read(1, 0)


def test_a_server_that_gives_other_bytes(web, tmp_path):
    index = read_index(web.url, tmp_path)
    data = bytearray((web.folder / "00003.tar").read_bytes())
    data[2000] ^= 1
    web.damaged["00003.tar"] = bytes(data)
    shards = Shards(index, tmp_path)
    with pytest.raises(
        ShardError, match=rf"00003\.tar: downloaded twice, its sha256 is \w{{64}}, its sidecar says {index.sha256[3]}"
    ):
        shards.read(3, 0)
    assert shards.read(2, 0) == expected(2, 0)


def test_a_disk_that_is_too_small_is_refused_at_the_start(web, tmp_path, monkeypatch):
    index = read_index(web.url, tmp_path)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(
        ShardError, match=r"cache_bytes is not set, so all shards are kept: [\d,]+ bytes, but .* has room for 1,000"
    ):
        Shards(index, tmp_path)


# -- ahead of time --------------------------------------------------------------------------------------------------


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
        assert shards.read(*order.sample(t, 1)) == expected(*order.sample(t, 1))
        assert web.asked == got, "it was brought before it was read"
    assert set(web.asked) == {index.names[s] for s in seen}, "nothing else is brought"
    assert shards.waited < 1
    shards.close()


def test_a_resumed_run_brings_its_window_first_and_none_before(web, tmp_path):
    index = read_index(web.url, tmp_path)
    order = Order(index.counts, seed=3, lanes=1, batch=1, window=2)
    shards = Shards(index, tmp_path)
    t = order.windows(0, 0)[1].end - 1
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
                place = order.sample(t, i)
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
    index = read_index(web.url, tmp_path)
    order = Order(index.counts, seed=0, lanes=1, batch=1, window=2)
    shards = Shards(index, tmp_path)
    shards.follow(order, [0])
    shards.advance(0)
    wanted = {*order.shards_needed(0, 0)[0], *order.shards_needed(0, 0)[1]}
    until(lambda: all(shards.cache.path(index.sha256[s]).exists() for s in wanted))
    other = ShardCache(tmp_path, shards.cache.used())
    assert not other.bring("another", 1000, "", "x", lambda path: path.write_bytes(b"x" * 1000), wait=False)
    shards.close()
    assert other.bring("another", 1000, "", "x", lambda path: path.write_bytes(b"x" * 1000), wait=False)


def test_a_fork_follows_by_itself(folder, tmp_path):
    index = read_index(folder, tmp_path)
    order = Order(index.counts, seed=0, lanes=1, batch=1, window=2)
    shards = Shards(index, tmp_path)
    shards.follow(order, [0])
    shards.advance(0)
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
        assert shards.read(*order.sample(t, 0)) == expected(*order.sample(t, 0))
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
    index = read_index(folder, tmp_path)
    order = Order(index.counts, seed=0, lanes=1, batch=1, window=2)
    shards = Shards(index, tmp_path)
    shards.follow(order, [0])
    shards.advance(0)
    needed = {*order.shards_needed(0, 0)[0], *order.shards_needed(0, 0)[1]}
    until(
        lambda: sum(1 for path in (tmp_path / "verified").glob("*") if not path.name.endswith(".lock")) == len(needed)
    )
    shards.close()
