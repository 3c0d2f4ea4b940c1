"""An S3 server, as far as `Storage` needs one, whose conditional PUT is atomic: moto looks first and writes then."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest
import s3fs

DATE = "Fri, 27 Nov 2026 00:00:00 GMT"


class AtomicStore(ThreadingHTTPServer):
    """`objects`: path -> bytes. `hold`: a path whose next PUT waits, unseen, until `go_on`. `lose_every`: of so many PUTs
    one is carried out and its answer never comes."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.objects: dict[str, bytes] = {}
        self.lock, self.puts, self.lose_every = threading.Lock(), 0, 0
        self.hold, self.held, self.go_on = "", threading.Event(), threading.Event()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: AtomicStore

    def do_PUT(self) -> None:
        path, data = self.key(), self.body()
        if path == self.server.hold:
            self.server.hold = ""
            self.server.held.set()
            self.server.go_on.wait(60)
        with self.server.lock:
            self.server.puts += 1
            lost = self.server.lose_every and self.server.puts % self.server.lose_every == 0
            taken = self.headers.get("If-None-Match") == "*" and path in self.server.objects
            if not taken:
                self.server.objects[path] = data
        if lost:
            self.close_connection = True
        elif taken:
            self.error(412, "PreconditionFailed")
        else:
            self.answer(200, b"", ETag='"0"')

    def do_GET(self) -> None:
        asked = parse_qs(urlsplit(self.path).query)
        if "list-type" in asked:
            return self.list(asked)
        with self.server.lock:
            data = self.server.objects.get(self.key())
        if data is None:
            return self.error(404, "NoSuchKey")
        first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        part = data[int(first) : int(last) + 1 if last else None]
        self.answer(206 if "Range" in self.headers else 200, part, ETag='"0"', **{"Last-Modified": DATE})

    do_HEAD = do_GET

    def list(self, asked: dict[str, list[str]]) -> None:
        bucket = self.key().strip("/")
        prefix, delimiter = asked.get("prefix", [""])[0], asked.get("delimiter", [""])[0]
        with self.server.lock:
            keys = sorted(
                path.removeprefix(f"/{bucket}/") for path in self.server.objects if path.startswith(f"/{bucket}/")
            )
        rows, folders = "", set()
        for key in (key for key in keys if key.startswith(prefix)):
            rest = key[len(prefix) :]
            if delimiter and delimiter in rest:
                folders.add(prefix + rest.partition(delimiter)[0] + delimiter)
            else:
                size = len(self.server.objects[f"/{bucket}/{key}"])
                rows += (
                    f"<Contents><Key>{escape(key)}</Key><LastModified>2026-11-27T00:00:00.000Z</LastModified>"
                    f'<ETag>"0"</ETag><Size>{size}</Size></Contents>'
                )
        rows += "".join(f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in sorted(folders))
        self.answer(200, f"<ListBucketResult><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>".encode())

    def key(self) -> str:
        return unquote(urlsplit(self.path).path)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked" or "aws-chunked" in self.headers.get(
            "Content-Encoding", ""
        ):
            raise NotImplementedError("a body in chunks")
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def error(self, status: int, code: str) -> None:
        self.answer(status, f"<Error><Code>{code}</Code></Error>".encode())

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Tests say nothing of each request."""


@contextlib.contextmanager
def atomic_store() -> Iterator[AtomicStore]:
    """With such a server; this process's environment leads there."""
    server = AtomicStore()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "nobody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3fs.S3FileSystem.clear_instance_cache()
        try:
            yield server
        finally:
            server.go_on.set()
            server.shutdown()
            s3fs.S3FileSystem.clear_instance_cache()
