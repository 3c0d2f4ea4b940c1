"""Samples by (shard, position), through the cache: from S3 and from a web server."""

from __future__ import annotations

import re
import shutil
from collections import Counter

import pytest
import s3fs

from tests.servers.bucket import s3_bucket
from tests.training.loopback import serving
from tests.training.made.small_shards import COUNTS, FORK, all_read, expected, held
from training.data.folder import ShardError
from training.data.index import read_index
from training.data.shards import Shards

pytestmark = pytest.mark.usefixtures("no_long_waits")


@pytest.fixture(scope="module")
def bucket(folder):
    """The shards on a real S3 server."""
    with s3_bucket("faces-to-read"):
        fs = s3fs.S3FileSystem()
        for path in folder.iterdir():
            fs.put_file(str(path), f"faces-to-read/shards/{path.name}")
        yield "s3://faces-to-read/shards"


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
