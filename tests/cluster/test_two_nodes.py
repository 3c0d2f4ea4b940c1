"""The sample's small world on a head and nodes with folders of their own, which share nothing but an S3 server: a node joins
while they score and is used, another goes, and the shards are those of a run on one machine."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from common.hashing import sha256_of_bytes
from curation.run_directory.run import Run
from tests.bucket import s3_bucket
from tests.ray_nodes import PATIENCE, Node, own_ray
from tests.world import ROOT, shard_hashes

WEIGHTS = os.environ.get("FACEMAKEUP_WEIGHTS", "")  # only the driver's node has them


@pytest.fixture
def recipe(small_world: Path, tmp_path: Path) -> Path:
    """An actor a CPU, so that a node that joins has something to do."""
    path = tmp_path / "recipe.yaml"
    path.write_text((small_world / "recipe.yaml").read_text().replace("workers: 1", "workers: null"))
    return path


@contextlib.contextmanager
def stopped(node: Node) -> Iterator[None]:
    """What scores on a node stands still inside a `with`; the node itself does not."""
    workers = [each for each in psutil.Process(node.process.pid).children(recursive=True) if "MapWorker" in each.name()]
    assert workers
    for worker in workers:
        worker.suspend()
    try:
        yield
    finally:
        for worker in workers:
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.resume()


def test_nodes_that_share_only_a_bucket_and_one_that_comes_and_one_that_goes(finished, recipe, tmp_path, monkeypatch):
    monkeypatch.delenv("FACEMAKEUP_WEIGHTS", raising=False)
    run, said = Run("s3://cluster/run"), tmp_path / "said.txt"
    with s3_bucket("cluster") as keys, own_ray(head_cpus=0, FACEMAKEUP_WEIGHTS=WEIGHTS, **keys) as own:
        first, second = own.add(1, **keys), own.add(1, **keys)
        command = [sys.executable, "jobs/curate.py", "--recipe", recipe, "--run", run.root, "--cluster", own.dashboard]
        with said.open("w") as output:
            job = subprocess.Popen(
                command, cwd=ROOT, stdout=output, stderr=output, env={**os.environ, "PASS_SECRETS": ""}
            )

            def wait_for_scores(count: int) -> None:
                deadline = time.monotonic() + PATIENCE
                while len(run.glob("scores/[0-9]*.parquet")) < count:
                    assert job.poll() is None and time.monotonic() < deadline, said.read_text()
                    time.sleep(0.2)

            wait_for_scores(3)
            with stopped(first), stopped(second):  # so that what comes now is the new node's
                time.sleep(2)
                own.add(1, **keys)
                began = time.monotonic()
                wait_for_scores(len(run.glob("scores/[0-9]*.parquet")) + 1)
                print(f"the new node's first unit: {time.monotonic() - began:.0f} s after it had joined")
                first.kill()
            assert job.wait(PATIENCE) == 0, said.read_text()
        told = said.read_text()
        assert "2 other nodes see s3://cluster/run and have the same code and models" in told, told
        assert "node3" in told.partition("units of")[2], told
        assert (second.folder / "cache" / "weights").is_dir(), "its model files came from the driver"
        hashes = {path.rsplit("/", 1)[-1]: sha256_of_bytes(run.read_bytes(path)) for path in run.glob("shards/small/*")}
        assert hashes == shard_hashes(finished)
