"""A run directory: whole files or none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pyarrow as pa
import pytest

from common.hashing import canonical_json
from curation.run_directory.run import Run


def test_a_killed_writer_leaves_no_file_under_the_final_name(tmp_path):
    code = (
        "import sys; from curation.run_directory.run import Run; import itertools\n"
        "for n in itertools.count(): Run(sys.argv[1]).write_bytes('a/big.bin', bytes([n % 256]) * 4_000_000)"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], env={**os.environ, "PYTHONPATH": os.getcwd()}
    )
    run = Run(tmp_path)
    try:
        for _ in range(600):
            if list(tmp_path.glob("a/.big.bin.*.tmp")):
                break
            time.sleep(0.01)
    finally:
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
    if run.exists("a/big.bin"):
        assert len(run.read_bytes("a/big.bin")) == 4_000_000
    run.sweep()
    assert not list(tmp_path.rglob("*.tmp"))
    assert run.glob("a/*") in ([], ["a/big.bin"])


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_what_is_written_is_read(tmp_path, kind):
    run = Run(tmp_path / "r" if kind == "local" else f"memory://{tmp_path.name}")
    run.write_bytes("x/one.bin", b"0123456789")
    assert run.read_bytes("x/one.bin", 3, 4) == b"3456"
    run.write_table("x/two.parquet", pa.table({"a": [1, None]}))
    run.write_table("x/three.parquet", pa.table({"a": [3]}))
    assert run.read_tables("x/t*.parquet")["a"].to_pylist() == [3, 1, None]
    assert run.read_tables("x/none*.parquet") is None
    assert run.glob("x/*") == ["x/one.bin", "x/three.parquet", "x/two.parquet"]
    local = tmp_path / "made"
    local.write_bytes(b"moved")
    run.put_file(local, "y/made")
    assert run.read_bytes("y/made") == b"moved" and not local.exists()


def test_canonical_json_has_one_spelling():
    assert canonical_json({"b": 1, "a": "é"}) == '{"a":"é","b":1}'
