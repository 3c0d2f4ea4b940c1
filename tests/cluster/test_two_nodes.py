"""The sample's small world on a head and nodes with folders of their own, which share nothing but an S3 server: a node is
killed while they fetch, one joins while they score and is used, another goes, and the shards are those of one machine."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from common.cluster.job import Job
from common.cluster.jobs import run_on_cluster
from common.hashing import sha256_of_bytes
from curation.run_directory.run import Run
from tests.cluster.secrets import found, told
from tests.ray_nodes import PATIENCE, Node, own_ray
from tests.servers.bucket import s3_bucket
from tests.world import ROOT, shard_hashes

WEIGHTS = os.environ.get("FACEMAKEUP_WEIGHTS", "")  # only the driver's node has them
PLANTED = {
    "AWS_ACCESS_KEY_ID": "planted-key-id-4711",
    "AWS_SECRET_ACCESS_KEY": "planted-key-4712",
    "AWS_SESSION_TOKEN": "planted-session-4713",
    "HF_TOKEN": "planted-token-4714",
}


pytestmark = pytest.mark.nodes


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


def working(node: Node, name: str) -> bool:
    """Whether a process of the node is at a task or an actor of this name."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return any(name in each.name() for each in psutil.Process(node.process.pid).children(recursive=True))
    return False


def test_nodes_that_share_only_a_bucket_and_one_that_comes_and_two_that_go(finished, recipe, tmp_path, monkeypatch):
    """One is killed while it fetches, one while it scores; and what the nodes reach the bucket with is told nowhere."""
    monkeypatch.delenv("FACEMAKEUP_WEIGHTS", raising=False)
    run, said = Run("s3://cluster/run"), tmp_path / "said.txt"
    with s3_bucket("cluster") as bucket:
        keys = {**bucket, **PLANTED, "PASS_SECRETS": ""}
        with own_ray(head_cpus=0, FACEMAKEUP_WEIGHTS=WEIGHTS, **keys) as own, said.open("w") as output:
            first, second = own.add(1, **keys), own.add(1, **keys)
            command = [
                sys.executable,
                "jobs/curate.py",
                "--recipe",
                recipe,
                "--run",
                run.root,
                "--cluster",
                own.dashboard,
            ]
            mine = {**os.environ, **PLANTED, "PASS_SECRETS": ""}
            job = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, env=mine)

            def wait_for(enough: Callable[[], bool]) -> None:
                deadline = time.monotonic() + PATIENCE
                while not enough():
                    assert job.poll() is None and time.monotonic() < deadline, said.read_text()
                    time.sleep(0.1)

            wait_for(lambda: working(first, "fetch_part"))
            assert not run.exists("fetched/snapshot.parquet")
            first.kill()
            wait_for(lambda: len(scored(run)) >= 3)
            with stopped(second):  # so that what comes now is the new node's
                time.sleep(2)
                own.add(1, **keys)
                began, before = time.monotonic(), len(scored(run))
                wait_for(lambda: len(scored(run)) > before)
                print(f"the new node's first unit: {time.monotonic() - began:.0f} s after it had joined")
                second.kill()
            assert job.wait(PATIENCE) == 0, said.read_text()
            assert (second.folder / "cache" / "weights").is_dir(), "its model files came from the driver"
            words = {**PLANTED, "Ray's token": os.environ["RAY_AUTH_TOKEN"]}
            assert found(words, told(own, run)) == []
            assert found(words, iter([("the command's log", said.read_bytes())])) == []
            monkeypatch.setenv("PASS_SECRETS", "1")
            monkeypatch.setenv("HF_TOKEN", PLANTED["HF_TOKEN"])
            assert run_on_cluster(own.dashboard, Job(["python", "-c", ""], "nothing")) == 0
            assert any("HF_TOKEN in api/jobs" in place for place in found(words, told(own))), "it would be found"
        text = said.read_text()
        assert "2 other nodes see s3://cluster/run and have the same code and models" in text, text
        assert "node3" in text.partition("units of")[2], text
        hashes = {path.rsplit("/", 1)[-1]: sha256_of_bytes(run.read_bytes(path)) for path in run.glob("shards/small/*")}
        assert hashes == shard_hashes(finished)


def scored(run: Run) -> list[str]:
    return run.glob("scores/[0-9]*.parquet")
