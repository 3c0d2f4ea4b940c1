"""What CLUSTER names, looked at before anything is started: each mistake is a message with its remedy."""

from __future__ import annotations

import time

import pytest

from common.cluster import jobs
from common.cluster.job import Job
from common.cluster.jobs import ClusterError, run_on_cluster
from common.cluster.places import PlaceError, reached
from tests.world import ROOT

JOB = Job(["python", "jobs/curate.py"], "curate s3://b/r")


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("docker/cluster.yaml", "REGISTRY/, ACCOUNT must be replaced by yours"),
        ("docker/cluster-onprem.yaml", "HEAD_ADDRESS, WORKER_ADDRESS, STORAGE_ADDRESS must be"),
        ("docker/compose.yaml", "no file for `ray up`, which has a `provider`; for the containers .* CLUSTER=compose"),
        ("curation/recipe/sample.yaml", "no file for `ray up`, which has a `provider`$"),
        ("docker/none.yaml", "no such file. Start from docker/cluster.yaml"),
    ],
)
def test_a_file_that_ray_up_cannot_use_is_told_before_it_starts(file, words):
    with pytest.raises(PlaceError, match=words), reached(str(ROOT / file)):
        pass


@pytest.mark.parametrize(
    ("lacks", "words"),
    [
        ("compose", "without its compose plugin .*unknown command"),
        ("info", "without an answer of its daemon .*no daemon"),
    ],
)
def test_a_docker_that_cannot_do_it_is_told_before_it_starts(tmp_path, monkeypatch, lacks, words):
    said = {"compose": "unknown command", "info": "no daemon"}[lacks]
    docker = tmp_path / "docker"
    docker.write_text(f'#!/bin/sh\n[ "$1" != {lacks} ] || {{ echo "{said}" >&2; exit 1; }}\n')
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PlaceError, match=words):
        run_on_cluster("compose", JOB)


def test_a_head_that_takes_no_job_is_told_and_not_waited_for_for_ever(monkeypatch, capsys):
    class Client:
        def list_jobs(self):
            return []

        def submit_job(self, **options):
            time.sleep(60)

    monkeypatch.setattr(jobs, "UNUSUAL", 0.05)
    monkeypatch.setattr(jobs, "GIVEN_UP", 0.1)
    monkeypatch.setattr(jobs, "_client_of", lambda cluster, address: Client())
    with pytest.raises(ClusterError, match="--dashboard-agent-listen-port"):
        run_on_cluster("http://127.0.0.1:9", JOB)
    assert "Waiting until" in capsys.readouterr().err
