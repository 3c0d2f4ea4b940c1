"""SIGKILL of the driver at each commit point, then the same command again: the same shards, nothing lost or doubled."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from curation import report
from tests.world import curate, fork, shard_hashes, shard_ids, start_driver

# what the killed driver had just committed, what of a finished run it started from, and what the second run must say
POINTS = {
    "selecting": ("work/sources/faces/*/*.parquet", (), "source rows"),
    "fetching": ("fetched/00/*.parquet", ("candidates", "selected"), "select  done before"),
    "between rounds": ("fetched/plan-01.parquet", ("candidates", "selected"), "select  done before"),
    "scoring": ("scores/text-*/*.parquet", ("candidates", "selected", "fetched"), "0 requests"),
    "cutting": ("cuts/small/verdicts/*.parquet", ("candidates", "selected", "fetched", "scores"), "text 0, faces 0"),
    "annotating": (
        "annotations/*/*.parquet",
        ("candidates", "selected", "fetched", "scores", "cuts"),
        "text 0, faces 0",
    ),
    "planned": (
        "cuts/small/plan.parquet",
        ("candidates", "selected", "fetched", "scores", "annotations"),
        "0 faces (dlib)",
    ),
    "packing": (
        "shards/small/*.tar",
        ("candidates", "selected", "fetched", "scores", "annotations"),
        "0 faces (dlib)",
    ),
}


@pytest.mark.parametrize("point", POINTS)
def test_a_killed_driver_goes_on_where_it_stopped(finished, small_world, ray_cluster, tmp_path, capsys, point):
    pattern, folders, expected = POINTS[point]
    root = fork(finished, tmp_path / "run", *folders)
    (root / "manifest.json").unlink()
    recipe = small_world / "recipe.yaml"
    driver = start_driver(root, recipe, ray_cluster["address"])
    wait_for(lambda: any(root.glob(pattern)), driver)
    os.kill(driver.pid, signal.SIGKILL)
    before, _ = driver.communicate()
    assert driver.returncode == -signal.SIGKILL, f"it had ended before it could be killed:\n{before}"

    capsys.readouterr()
    curate(root, small_world)
    said = capsys.readouterr().err
    assert expected in said, said
    assert shard_hashes(root) == shard_hashes(finished)
    assert len(shard_ids(root)) == len(set(shard_ids(root)))
    assert report.main([str(root), "--no-html"]) == 0
    assert not list(root.rglob(".*.tmp")), "half-written files are swept"


def wait_for(condition, driver: subprocess.Popen[str], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if driver.poll() is not None:
            raise AssertionError(f"the driver ended first:\n{driver.stdout.read()}")
        assert time.monotonic() < deadline, "the commit point was never reached"
        time.sleep(0.005)
