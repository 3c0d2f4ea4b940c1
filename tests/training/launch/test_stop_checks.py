"""A file asks a run to stop, on a disk and in a bucket."""

from __future__ import annotations

import pytest

from tests.servers.bucket import s3_bucket
from training.launch import stop_checks
from training.launch.stop_checks import clear_stop_request, request_stop, stop_on_file
from training.stop_request import StopRequest


@pytest.fixture(scope="module")
def bucket():
    with s3_bucket("stops"):
        yield "s3://stops"


def test_the_stop_file_is_seen_and_forgotten_on_a_disk_and_in_a_bucket(bucket, tmp_path, monkeypatch):
    for out in (str(tmp_path / "run"), f"{bucket}/stops"):
        monkeypatch.setattr(stop_checks, "STOP_POLL", 1e6 if out.startswith("s3") else 0.0)
        request_stop(out)
        assert stop_on_file(out, 1)(1) == StopRequest.NONE  # rank 0 looks for all
        if out.startswith("s3"):
            assert stop_on_file(out, 0)(1) == StopRequest.NONE  # asked by time, not by step
            monkeypatch.setattr(stop_checks, "STOP_POLL", 0.0)
        assert stop_on_file(out, 0)(1) == StopRequest.STOP
        clear_stop_request(out)
        assert stop_on_file(out, 0)(2) == StopRequest.NONE
