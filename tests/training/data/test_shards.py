"""Samples by (shard, position), in place on a disk."""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
from pathlib import Path

import pytest

from tests.training.made.small_shards import FORK, all_read, expected
from training.data import folder as folder_module
from training.data import shards as shards_module
from training.data.folder import CorruptSample, ShardError
from training.data.index import read_index
from training.data.shards import Shards


@pytest.fixture
def copy(folder, tmp_path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def test_a_local_folder_is_read_in_place(folder, tmp_path):
    shards = Shards(read_index(folder, tmp_path), tmp_path)
    all_read(shards)
    assert not (tmp_path / "shards").exists()


def test_it_is_hashed_once(copy, tmp_path, monkeypatch):
    hashed = []
    real = folder_module.sha256_of_file
    monkeypatch.setattr(folder_module, "sha256_of_file", lambda path: hashed.append(path.name) or real(path))
    index = read_index(copy, tmp_path / "cache")
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
def test_a_sample_whose_header_is_not_what_the_index_says_is_corrupt_alone(copy, tmp_path, monkeypatch, data, message):
    index = read_index(copy, tmp_path / "cache")
    at = index.members(0, 1)["txt"][0] - 512
    if data is None:  # a good header, of another member
        data = (copy / "00000.tar").read_bytes()[index.members(0, 2)["jpg"][0] - 512 :][:512]
    spoil(copy / "00000.tar", at, data)
    monkeypatch.setattr(shards_module, "verify_once", lambda *_: None)  # it was spoilt after it was verified
    shards = Shards(index, tmp_path / "cache")
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
    shards = Shards(read_index(copy, tmp_path / "cache"), tmp_path / "cache")
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
    with folder_module.locked(lock):
        child = FORK.Process(target=_lock_once, args=(lock,), daemon=True)
        child.start()
        assert child.is_alive()
    child.join(20)
    assert child.exitcode == 0


def _lock_once(path: Path) -> None:
    with folder_module.locked(path):
        pass
