"""A folder in which files are whole or not there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pyarrow as pa
import pytest

from common.storage import Storage


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
