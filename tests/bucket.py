"""A real S3 server on 127.0.0.1, and the environment that leads to it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import s3fs
from moto.server import ThreadedMotoServer


@contextlib.contextmanager
def s3_bucket(name: str) -> Iterator[dict[str, str]]:
    """With a fresh bucket `name`; this process's environment leads there. Yields what to set in another's.

    moto's buckets are global to a process: each test takes a name of its own.
    """
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        keys = {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        with pytest.MonkeyPatch.context() as patch:
            for key, value in keys.items():
                patch.setenv(key, value)
            s3fs.S3FileSystem.clear_instance_cache()  # of the servers of other tests
            s3fs.S3FileSystem().mkdir(name)
            yield keys
    finally:
        server.stop()
        s3fs.S3FileSystem.clear_instance_cache()
