"""A real S3 server on 127.0.0.1, and the environment that leads to it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import pytest
import s3fs
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.server import ThreadedMotoServer
from werkzeug.serving import make_server


class Asked(NamedTuple):
    """A request that the server had: the path is "/BUCKET/KEY"; `bytes` of the answer's body."""

    method: str
    path: str
    bytes: int


class Counted:
    """A WSGI application in front of another: `asked`, every request that went through."""

    def __init__(self, store: Callable[..., Iterable[bytes]]):
        self.store, self.asked, self._lock = store, [], threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        body = b"".join(self.store(environ, start_response))
        with self._lock:
            self.asked.append(Asked(environ["REQUEST_METHOD"], environ["PATH_INFO"], len(body)))
        return [body]


@contextlib.contextmanager
def counted_bucket(name: str) -> Iterator[list[Asked]]:
    """With a fresh bucket, and this process's environment leading to a server that counts. Yields what it was asked."""
    with s3_bucket(name):
        counted = Counted(DomainDispatcherApplication(create_backend_app))
        server = make_server("127.0.0.1", 0, counted, threaded=True, request_handler=MotoRequestHandler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
            s3fs.S3FileSystem.clear_instance_cache()
            try:
                yield counted.asked
            finally:
                server.shutdown()


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
            "PASS_SECRETS": "1",  # the nodes of a test's Ray have no identity of their own
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
