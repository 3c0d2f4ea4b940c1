"""A folder in which files are whole or not there."""

from __future__ import annotations

import contextlib
import copy
import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
from botocore.exceptions import ClientError
from s3fs import S3FileSystem

from common.failures import transient
from common.failures.damage import DamagedFile, MissingFile
from common.paths import PathError
from common.storage import Storage
from tests.chaos.faulty_store import Faults, faulty_bucket
from tests.servers.bucket import s3_bucket


def test_a_killed_writer_leaves_no_file_under_the_final_name(tmp_path):
    code = (
        "import sys; from common.storage import Storage; import itertools\n"
        "for n in itertools.count(): Storage(sys.argv[1]).write_bytes('a/big.bin', bytes([n % 256]) * 4_000_000)"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], env={**os.environ, "PYTHONPATH": os.getcwd()}
    )
    storage = Storage(tmp_path)
    try:
        for _ in range(600):
            if list(tmp_path.glob("a/.big.bin.*.tmp")):
                break
            time.sleep(0.01)
    finally:
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
    if storage.exists("a/big.bin"):
        assert len(storage.read_bytes("a/big.bin")) == 4_000_000
    storage.sweep()
    assert not list(tmp_path.rglob("*.tmp"))
    assert storage.glob("a/*") in ([], ["a/big.bin"])


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_what_is_written_is_read(tmp_path, kind):
    storage = Storage(tmp_path / "r" if kind == "local" else f"memory://{tmp_path.name}")
    storage.write_bytes("x/one.bin", b"0123456789")
    assert storage.read_bytes("x/one.bin", 3, 4) == b"3456"
    storage.write_table("x/two.parquet", pa.table({"a": [1, None]}))
    storage.write_table("x/three.parquet", pa.table({"a": [3]}))
    assert storage.read_tables("x/t*.parquet")["a"].to_pylist() == [3, 1, None]
    assert storage.read_tables("x/none*.parquet") is None
    assert storage.glob("x/*") == ["x/one.bin", "x/three.parquet", "x/two.parquet"]
    local = tmp_path / "made"
    local.write_bytes(b"moved")
    storage.put_file(local, "y/made")
    assert storage.read_bytes("y/made") == b"moved" and not local.exists()


def test_a_file_of_another_disk_is_moved_too(tmp_path, monkeypatch):
    """Under a temporary name first: half of it must not stand under its own."""
    local, seen = tmp_path / "made", []
    local.write_bytes(b"moved")
    real = os.replace

    def replace(source, target):
        seen.append(Path(source).name)
        if Path(source) == local:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    storage = Storage(tmp_path / "r")
    storage.put_file(local, "y/made")
    assert storage.read_bytes("y/made") == b"moved" and not local.exists()
    assert len(seen) == 2 and seen[1].endswith(".tmp")


def test_an_empty_object_is_read():
    with s3_bucket("empty"):
        storage = Storage("s3://empty/run")
        storage.write_bytes("nothing.bin", b"")
        assert storage.read_bytes("nothing.bin") == b""


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[" * 99999, b"PAR1", b"<html>"])
def test_a_file_that_was_damaged_is_named(tmp_path, data):
    storage = Storage(tmp_path / "run [1]")
    for name, read in (("a/b.json", storage.read_json), ("a/b.parquet", storage.read_table)):
        storage.write_bytes(name, data)
        with pytest.raises(DamagedFile, match="b.(json is no JSON|parquet is no parquet file).*restore this file"):
            read(name)


def test_a_folder_that_is_gone_is_said_and_so_is_a_file(tmp_path):
    storage = Storage(tmp_path / "run")
    storage.write_json("a.json", 1)
    with pytest.raises(FileNotFoundError, match="b.json is not there: restore this file from a copy"):
        storage.read_json("b.json")
    with pytest.raises(MissingFile, match="c.tar is not there: restore this file from a copy"):
        storage.get_file("c.tar", tmp_path / "c.tar")
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(PathError, match="run: this folder is gone: mount its disk again, or restore it"):
        storage.read_json("a.json")


# -- a store that fails for a moment -----------------------------------------------------------------------------------


class Failing:
    """Stands before a method of a filesystem: each odd call fails."""

    def __init__(self, method, error):
        self.method, self.error, self.calls = method, error, 0

    def __call__(self, *arguments, **named):
        self.calls += 1
        if self.calls % 2:
            raise self.error
        return self.method(*arguments, **named)


USES = {
    "exists": ("info", lambda storage: storage.exists("a/one.bin"), True),
    "does not": ("info", lambda storage: storage.exists("a/two.bin"), False),
    "lists": ("ls", lambda storage: storage.glob("a/*"), ["a/one.bin"]),
    "reads": ("cat_file", lambda storage: storage.read_bytes("a/one.bin", 1, 2), b"23"),
    "writes": ("pipe_file", lambda storage: storage.write_bytes("a/three.bin", b"x"), None),
    "creates": ("pipe_file", lambda storage: storage.write_new("a/four.bin", b"x"), True),
}


@pytest.mark.parametrize("name", USES)
def test_a_store_that_fails_for_a_moment_is_asked_again(tmp_path, monkeypatch, name):
    method, use, expected = USES[name]
    monkeypatch.setattr(transient, "FIRST_WAIT", 0.001)
    storage = Storage(f"memory://{tmp_path.name}-{name}")
    storage.write_bytes("a/one.bin", b"1234")
    failing = Failing(getattr(storage.fs, method), OSError(errno.EBUSY, "SlowDown"))
    monkeypatch.setattr(storage.fs, method, failing)
    assert use(storage) == expected
    assert failing.calls >= 2


def test_a_store_that_has_never_answered_is_a_wrong_address(tmp_path, monkeypatch):
    """A person waits to hear of it. A worker's copy of one that has answered is patient from its start."""
    storage = Storage(f"memory://{tmp_path.name}")
    failing = Failing(storage.fs.info, ConnectionRefusedError(errno.ECONNREFUSED, "no store there"))
    monkeypatch.setattr(storage.fs, "info", failing)
    with pytest.raises(ConnectionRefusedError):
        storage.exists("a")
    assert failing.calls == 1
    assert not copy.copy(storage).has_answered
    assert not storage.exists("a")
    assert copy.copy(storage).has_answered


def test_a_store_whose_first_answer_is_503_is_asked_again(tmp_path, monkeypatch):
    """It is there."""
    busy = OSError(errno.EBUSY, "Service Unavailable")
    busy.__cause__ = ClientError({"Error": {"Code": "503"}}, "HeadObject")
    monkeypatch.setattr(transient, "FIRST_WAIT", 0.001)
    storage = Storage(f"memory://{tmp_path.name}")
    failing = Failing(storage.fs.info, busy)
    monkeypatch.setattr(storage.fs, "info", failing)
    assert not storage.exists("a")
    assert failing.calls == 2


def test_a_head_that_is_answered_503_is_sent_again(monkeypatch):
    """It has no body, hence none of the words by which s3fs knows an overload."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with faulty_bucket("busy", Faults(refused=2, slowest=0)) as (store, environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        S3FileSystem.clear_instance_cache()
        storage = Storage("s3://busy")
        storage.write_bytes("one.bin", b"1234")
        assert [storage.fs.size(storage.path("one.bin")) for _ in range(4)] == [4] * 4
        assert store.counts["refused"] >= 4


@pytest.mark.parametrize("kind", ["local", "memory", "bucket"])
def test_of_two_that_create_a_file_the_first_is_heard(tmp_path, kind):
    with s3_bucket("created") if kind == "bucket" else contextlib.nullcontext():
        where = {"local": tmp_path / "r", "memory": f"memory://{tmp_path.name}", "bucket": "s3://created/r"}[kind]
        storage = Storage(where)
        assert storage.write_new("plan/a.json", b"mine")
        assert not storage.write_new("plan/a.json", b"another's")
        assert storage.write_new("plan/a.json", b"mine"), "sent again after it had succeeded"
        assert storage.read_bytes("plan/a.json") == b"mine"
        assert storage.glob("plan/*") == ["plan/a.json"]


def test_of_many_that_create_a_file_at_once_one_is_heard(tmp_path):
    storage = Storage(tmp_path)
    with ThreadPoolExecutor(16) as threads:
        heard = list(threads.map(lambda number: storage.write_new("a.json", b"%d" % number), range(64)))
    assert heard.count(True) == 1
    assert storage.read_bytes("a.json") == b"%d" % heard.index(True)


@pytest.mark.parametrize("place", ["/proc/nothing/run", "/dev/null", "/dev/null/run"])
def test_a_place_where_no_folder_can_be_is_a_message(place):
    with pytest.raises(PathError, match="no folder can be made there: take another path"):
        Storage(place).write_bytes("a.json", b"x")


@pytest.mark.parametrize("named", [True, False])
def test_an_error_names_the_file_and_not_its_temporary_name(tmp_path, monkeypatch, named):
    def refused(path, *_, **__):
        raise OSError(errno.EROFS, "Read-only file system", *([path] if named else []))

    monkeypatch.setattr(os, "replace" if named else "fsync", refused)
    monkeypatch.setattr(Path, "unlink", refused)  # such a disk refuses to tidy up, too
    with pytest.raises(OSError) as told:
        Storage(tmp_path).write_bytes("report.html", b"x")
    assert told.value.filename == str(tmp_path / "report.html")


def test_curation_asks_a_store_only_through_storage_which_is_patient():
    """`make chaos` found a size that was asked for at the file system itself: one 503 ended the step."""
    root = Path(__file__).resolve().parents[2] / "curation"
    asked = [str(path) for path in root.rglob("*.py") if re.search(r"\.fs\.", path.read_text())]
    assert asked == []
