"""An S3 server that is overloaded: it refuses every third request, is slow, and cuts what it says.

moto on 127.0.0.1 behind a layer that misbehaves by count, so that no request is spared for long. A second door to the
same objects has none of it, for who looks at what came of a run.
"""

from __future__ import annotations

import contextlib
import logging
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from tests.servers.bucket import s3_bucket

SLOW_DOWN = (
    b'<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>'
)


@dataclass(frozen=True)
class Faults:
    """What is done to which request, by its number."""

    refused: int = 3  # every third is answered 503, and not carried out
    cut: int = 5  # of the answers with a body every fifth ends in its middle
    lost: int = 7  # every seventh write is carried out, and its answer never comes
    slowest: float = 0.04  # seconds that an answer takes at most; half of it at least


class FaultyStore:
    """A WSGI application in front of another. `counts`: what it did; `keys`: the objects that are there, "bucket/key"."""

    def __init__(self, store: Callable[..., Iterable[bytes]], seed: int = 0, faults: Faults | None = None):
        self.store, self.faults = store, faults or Faults()
        self.counts: Counter[str] = Counter()
        self._draw = random.Random(seed)
        self._lock = threading.Lock()
        self._keys: set[str] = set()

    def _every(self, what: str, times: int) -> bool:
        """Count one of `what`; whether it is the `times`-th again."""
        with self._lock:
            self.counts[what] += 1
            return self.counts[what] % times == 0

    def _note(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1

    @property
    def keys(self) -> list[str]:
        with self._lock:
            return sorted(self._keys)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        refused = self._every("requests", self.faults.refused)
        with self._lock:
            pause = self._draw.uniform(self.faults.slowest / 2, self.faults.slowest)
        time.sleep(pause)
        method = environ["REQUEST_METHOD"]
        if refused:
            self._note("refused")
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))  # or the client sees a reset, not this
            start_response(
                "503 Slow Down", [("Content-Type", "application/xml"), ("Content-Length", str(len(SLOW_DOWN)))]
            )
            return [] if method == "HEAD" else [SLOW_DOWN]
        begun: list[Any] = []
        body = b"".join(self.store(environ, lambda *answer: begun.append(answer)))
        status, headers = begun[-1][:2]
        if status.startswith("2"):
            self._remember(method, environ["PATH_INFO"].lstrip("/"), environ.get("QUERY_STRING", ""))
        if method in ("PUT", "POST") and self._every("writes", self.faults.lost):
            self._note("lost")
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionResetError("this answer is lost")
        start_response(status, headers)
        if method == "GET" and len(body) > 1 and self._every("bodies", self.faults.cut):
            self._note("cut")
            return [body[: len(body) // 2]]  # its length was announced, and the server closes
        return [body]

    def _remember(self, method: str, key: str, query: str) -> None:
        """A PUT of a part is no object yet; the POST that ends an upload makes it one."""
        with self._lock:
            if (method == "PUT" and "uploadId" not in query) or (method == "POST" and "uploadId" in query):
                self._keys.add(key)
            elif method == "DELETE":
                self._keys.discard(key)

    def told(self) -> str:
        """The counts, for a person."""
        counts = self.counts
        return (
            f"{counts['requests']:,} requests: {counts['refused']:,} answered 503, {counts['cut']:,} bodies cut, "
            f"{counts['lost']:,} answers lost"
        )


@contextlib.contextmanager
def faulty_bucket(
    name: str, faults: Faults | None = None, seed: int = 0
) -> Iterator[tuple[FaultyStore, dict[str, str]]]:
    """With a fresh bucket: the layer in front of it, and the environment that leads there. This process's own environment
    leads to the door without faults."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request
    with s3_bucket(name) as keys:
        store = FaultyStore(DomainDispatcherApplication(create_backend_app), seed, faults)
        server = make_server("127.0.0.1", 0, store, threaded=True, request_handler=MotoRequestHandler)
        server.daemon_threads, server.block_on_close = True, False  # a killed client leaves its thread waiting
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield store, {**keys, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}"}
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
