"""SIGKILL of the driver at each commit point of one run, one after the other: the same shards, nothing lost or doubled."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from curation import report
from tests.world import curate, shard_hashes, shard_ids, start_driver


class Kill(NamedTuple):
    """`after`: what the driver that is killed has just committed; `next_says`: what the next one must say of it."""

    after: str
    next_says: str


# in the order in which a run writes them; each driver goes on from what the one before it left
KILLS = {
    "selecting": Kill("work/sources/*", "source rows"),
    "fetching": Kill("fetched/00/*.parquet", "select  done before"),
    "between rounds": Kill("fetched/plan-01.parquet", "select  done before"),
    "scoring": Kill("scores/*.parquet", "0 requests"),
    "cutting": Kill("cuts/small/verdicts/*/*.parquet", "text 0, faces 0"),
    "annotating": Kill("annotations/*/*.parquet", "text 0, faces 0"),
    "planned": Kill("cuts/small/plan.parquet", "0 faces (dlib)"),
    "packing": Kill("shards/small/*.tar", "0 faces (dlib)"),
}


# eight drivers, each of which takes its time to start: longer than other tests may on a busy machine
@pytest.mark.timeout(1800)
def test_a_driver_that_is_killed_at_each_commit_point_goes_on(finished, small_world, ray_cluster, tmp_path, capsys):
    root, expected = tmp_path / "run", ""
    for point, kill in KILLS.items():
        assert not any(root.glob(kill.after)), f"{point}: the driver before went too far to be killed here"
        driver = start_driver(root, small_world / "recipe.yaml", ray_cluster["address"])
        said = kill_after(root, kill.after, driver)
        assert expected in said, f"{point}: {said}"
        expected = kill.next_says

    capsys.readouterr()
    curate(root, small_world)
    said = capsys.readouterr().err
    assert expected in said, said
    assert shard_hashes(root) == shard_hashes(finished)
    assert len(shard_ids(root)) == len(set(shard_ids(root)))
    assert report.main([str(root), "--no-html"]) == 0
    assert not list(root.rglob(".*.tmp")), "half-written files are swept"


def kill_after(root: Path, pattern: str, driver: subprocess.Popen[str], seconds: float = 240) -> str:
    """Kill the driver as soon as such a file is there; what it had said."""
    deadline = time.monotonic() + seconds
    while not any(root.glob(pattern)):
        assert driver.poll() is None, f"the driver ended first:\n{driver.stdout.read()}"
        assert time.monotonic() < deadline, f"{pattern} was never written"
        time.sleep(0.005)
    os.kill(driver.pid, signal.SIGKILL)
    said, _ = driver.communicate()
    assert driver.returncode == -signal.SIGKILL, f"it had ended before it could be killed:\n{said}"
    return said
