"""jobs/curate.py as a user meets it: mistakes said before any work, a Ray job, a bucket."""

from __future__ import annotations

import os

import pytest
import yaml

from common.hashing import sha256_of_bytes
from curation.run_directory.run import Run
from jobs import curate as job
from tests.servers.bucket import s3_bucket
from tests.world import fork, shard_hashes, start_driver


def changed(world, tmp_path, **sections):
    tree = yaml.safe_load((world / "recipe.yaml").read_text())
    for name, value in sections.items():
        tree[name] = {**tree[name], **value} if isinstance(value, dict) and name in tree else value
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"fetch": {"tiemout": 3}}, ["fetch.tiemout", "did you mean `timeout`"]),
        ({"text": {"max_area": 0.1}}, ["text: no such field", "or `thresholds.text`"]),
        ({"thresholds": {"text": {"min_confidence": 0.1}}}, ["thresholds.text.min_confidence", "0.3", "not stored"]),
        ({"thresholds": {"faces": {"min_confidence": 0.05}}}, ["thresholds.faces.min_confidence", "0.1", "not stored"]),
        ({"sources": {"facecaption": ["/nowhere/at/all.parquet"]}}, ["sources.facecaption", "/nowhere/at/all.parquet"]),
        ({"select": {"count": 10}}, ["select", "exactly one of `count` and `fraction`"]),
        ({"select": {"count": 10_000, "fraction": None}}, ["10,000", "132 rows", "Lower the count"]),
        ({"select": {"key": "image_area"}}, ["select.key", "LAION-Face", "box_min_side"]),
        ({"fetch": {"local_web": {"folder": "/nowhere/web"}}}, ["fetch.local_web.folder", "/nowhere/web"]),
        ({"sources": {"facecaption": ["${NOT_SET_ANYWHERE}/a.parquet"]}}, ["NOT_SET_ANYWHERE", "export"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_a_mistake_in_the_recipe_is_one_message_before_any_work(
    small_world, ray_cluster, tmp_path, capsys, sections, words
):
    path = changed(small_world, tmp_path, **sections)
    assert job.main(["--recipe", str(path), "--run", str(tmp_path / "run")]) == 2
    said = " ".join(capsys.readouterr().err.split())
    for word in words:
        assert word in said
    assert "Traceback" not in said
    assert not (tmp_path / "run" / "selected").exists()


def test_on_a_cluster_a_relative_run_directory_is_refused(small_world, ray_cluster, capsys):
    options = ["--recipe", str(small_world / "recipe.yaml"), "--run", "runs/mine"]
    assert job.main([*options, "--cluster", ray_cluster["dashboard"]]) == 2
    assert "absolute path on shared storage" in " ".join(capsys.readouterr().err.split())


def test_a_run_directory_belongs_to_one_selection(finished, small_world, ray_cluster, tmp_path, capsys):
    path = changed(small_world, tmp_path, select={"fraction": 0.5})
    assert job.main(["--recipe", str(path), "--run", str(finished)]) == 2
    assert "was started with another `select`" in " ".join(capsys.readouterr().err.split())


def test_the_same_command_as_a_ray_job(finished, small_world, ray_cluster, tmp_path, capfd):
    if not ray_cluster["takes_jobs"]:
        pytest.skip("another Ray on this machine holds the port of the job agent")
    root = fork(finished, tmp_path / "run", "candidates", "selected", "fetched", "scores")
    options = ["--recipe", str(small_world / "recipe.yaml"), "--run", str(root)]
    assert job.main([*options, "--cluster", ray_cluster["dashboard"]]) == 0
    assert "0 requests" in capfd.readouterr().err
    assert shard_hashes(root) == shard_hashes(finished)
    assert (root / "report.html").exists()


def test_a_run_directory_in_a_bucket(finished, small_world, ray_cluster, tmp_path):
    """From nothing to shards through a real S3 server: the same bytes as on a disk."""
    with s3_bucket("faces") as keys:
        root = "s3://faces/runs/small"
        run = Run(root)
        driver = start_driver(root, small_world / "recipe.yaml", ray_cluster["address"], **keys)
        said, _ = driver.communicate(timeout=400)
        assert driver.returncode == 0, said
        hashes = {os.path.basename(path): sha256_of_bytes(run.read_bytes(path)) for path in run.glob("shards/small/*")}
        assert hashes == shard_hashes(finished)
        assert run.exists("report.html")
