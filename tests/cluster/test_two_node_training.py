"""Training on two nodes whose shards and checkpoints are in a bucket: one node goes without notice, another comes, and the run
ends with the bits of one that nobody touched."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
import s3fs
import yaml

from common.storage import Storage
from tests.ray_nodes import PATIENCE, own_ray
from tests.servers.bucket import s3_bucket
from tests.training.conftest import base, shards  # noqa: F401  fixtures
from tests.training.ranks import assert_same_run, log_of, recipe_for, run_ranks
from tests.world import ROOT

STEPS, EVERY = 12, 4
pytestmark = pytest.mark.nodes


def test_a_node_goes_and_another_takes_its_place(shards, base, tmp_path):  # noqa: F811
    recipe = recipe_for(shards, base, steps=STEPS, saving__every=EVERY)
    out, said, file = Storage("s3://training/out"), tmp_path / "said.txt", tmp_path / "recipe.yaml"
    with s3_bucket("training") as keys, own_ray(head_cpus=0, **keys) as own:
        s3fs.S3FileSystem().put(f"{shards}/", "training/shards/", recursive=True)
        # the cache is a path of each node's own, the base a folder that is on all of them
        there = recipe.model_dump(mode="json")
        there["data"] |= {"shards": "s3://training/shards", "shard_cache": None}
        file.write_text(yaml.safe_dump(there))
        _, second = own.add(1, **keys), own.add(1, **keys)
        command = [sys.executable, "jobs/train.py", "--recipe", file, "--out", out.root, "--ranks", "2"]
        with said.open("w") as output:
            job = subprocess.Popen(
                [*command, "--cluster", own.dashboard], cwd=ROOT, stdout=output, stderr=output, env={**os.environ}
            )
            deadline = time.monotonic() + PATIENCE
            while not out.exists(f"checkpoints/step-{EVERY:09d}/manifest.json"):
                assert job.poll() is None and time.monotonic() < deadline, said.read_text()
                time.sleep(0.1)
            second.kill()
            assert not out.exists(f"checkpoints/step-{STEPS:09d}/manifest.json"), "it had ended before"
            own.add(1, **keys)
            assert job.wait(PATIENCE) == 0, said.read_text()
        s3fs.S3FileSystem().get("training/out/", f"{tmp_path / 'out'}/", recursive=True)
    starts = log_of(tmp_path / "out", "started")
    assert [row["world"] for row in starts] == [2, 2] and starts[1]["step"] in range(EVERY, STEPS, EVERY), starts
    run_ranks(recipe, tmp_path / "undisturbed", world=2)
    assert_same_run(tmp_path / "out", tmp_path / "undisturbed")
