"""A web server that stands in for the web while the sample is fetched, faults included.

It answers by the Host header and the path, as behaviour.json says; `resolve` is what sends a fetcher's
connections here, as `curl --resolve` would. It binds 127.0.0.1 only, unless it is told another address.

    python -m curation.sample.web [--folder DIR]     serve the sample for a person to look at
"""

from __future__ import annotations

import argparse
import json
import select
import socket
import struct
import threading
import time
from collections import Counter
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from types import TracebackType
from typing import Any
from urllib.parse import quote, unquote_to_bytes, urlsplit

from common.pinned_files.packages import cache_dir

MAX_THREADS = 64
MAX_ANSWER_SECONDS = 30.0  # seconds that a silent or endless answer lasts at most
ENDLESS_BYTES = 64 << 20
BLOCK = bytes(range(256)) * 256


def canonical_url(url: str) -> str:
    """The one spelling of a URL that behaviour.json is keyed by: host lower-cased, :80 and fragment dropped,
    path and query percent-encoded."""
    parts = urlsplit(url)
    host = (parts.hostname or "") + (f":{parts.port}" if parts.port not in (None, 80) else "")
    path = quote(unquote_to_bytes(parts.path or "/"), safe="/")
    query = quote(unquote_to_bytes(parts.query), safe="=&")
    return f"{parts.scheme.lower()}://{host}{path}" + (f"?{query}" if query else "")


class RequestLog:
    """How often each URL was asked for. With a file the counts outlive the process, however it ends."""

    def __init__(self, file: Path | None):
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._out = None
        if file is None:
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        self._out = open(file, "a+b", buffering=0)
        self._out.seek(0)
        lines, _, torn = self._out.read().rpartition(b"\n")
        if torn:  # a kill can leave the last line without its end: it does not count
            self._out.truncate(len(lines) + 1 if lines else 0)
        self.counts.update(line for line in lines.decode().split("\n") if line)

    def add(self, url: str) -> int:
        """The number of this request, from 1 on."""
        with self._lock:
            self.counts[url] += 1
            if self._out is not None and not self._out.closed:
                self._out.write(url.encode() + b"\n")
            return self.counts[url]

    def close(self) -> None:
        with self._lock:
            if self._out is not None:
                self._out.close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "sample", ""
    timeout = 15  # seconds for a client to say what it wants
    server: Server

    def do_GET(self) -> None:
        self.close_connection = True  # one request a connection: idle ones would hold the bounded threads
        web = self.server.web
        if not self.path.isascii():
            self.send_error(400, "a path is percent-encoded")
            return
        url = canonical_url(f"http://{self.headers.get('Host', '')}{self.path}")
        number = web.request_log.add(url)
        entry = web.behaviour.get(url)
        if entry is None:
            self._send(404, b"no such picture\n", "text/plain")
            return
        heals_at = entry.get("heals_at")
        what = "file" if heals_at and number >= heals_at else entry["do"]
        getattr(self, f"_{what}")(entry)

    # -- what an entry can ask for, by its `do` ----------------------------------------------------------------

    def _file(self, entry: dict[str, Any]) -> None:
        self._send(200, self._body(entry), entry.get("type"), entry.get("headers"))

    def _status(self, entry: dict[str, Any]) -> None:
        self._send(entry["status"], b"<html>no</html>\n", "text/html", entry.get("headers"))

    def _redirect(self, entry: dict[str, Any]) -> None:
        self._send(entry["status"], b"", None, {"Location": entry["location"]})

    def _html(self, entry: dict[str, Any]) -> None:
        self._send(200, b"<!DOCTYPE html><title>Sign in</title><p>Please sign in to see this picture.\n", "text/html")

    def _empty(self, entry: dict[str, Any]) -> None:
        self._send(200, b"", entry.get("type"))

    def _chunked(self, entry: dict[str, Any]) -> None:
        self._head(200, entry.get("type"), {"Transfer-Encoding": "chunked"})
        body = self._body(entry)
        for start in range(0, len(body), 4096):
            block = body[start : start + 4096]
            self.wfile.write(f"{len(block):x}\r\n".encode() + block + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def _cut(self, entry: dict[str, Any]) -> None:
        """A Content-Length of the whole body, then half of it."""
        body = self._body(entry)
        self._head(200, entry.get("type"), {"Content-Length": str(len(body))})
        self.wfile.write(body[: len(body) // 2])

    def _huge(self, entry: dict[str, Any]) -> None:
        self._head(200, entry.get("type"), {"Content-Length": str(50 << 30)})
        self._stream(4)

    def _endless(self, entry: dict[str, Any]) -> None:
        self._head(200, entry.get("type"), {})
        self.wfile.write(self._body(entry))
        self._stream(ENDLESS_BYTES // len(BLOCK))

    def _stream(self, blocks: int) -> None:
        until = time.monotonic() + MAX_ANSWER_SECONDS
        for _ in range(blocks):
            if time.monotonic() > until or self.server.web.closing.is_set():
                return
            self.wfile.write(BLOCK)
        self._wait(MAX_ANSWER_SECONDS)

    def _drip(self, entry: dict[str, Any]) -> None:
        """Never silent for long, never done in time."""
        body = self._body(entry)
        self._head(200, entry.get("type"), {"Content-Length": str(len(body))})
        for place in range(min(len(body), 200)):
            self.wfile.write(body[place : place + 1])
            if self._wait(0.3):
                return

    def _silent(self, entry: dict[str, Any]) -> None:
        self._wait(MAX_ANSWER_SECONDS)

    def _reset(self, entry: dict[str, Any]) -> None:
        """The connection is reset (RST) rather than closed."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    # -- helpers -----------------------------------------------------------------------------------------------

    def _body(self, entry: dict[str, Any]) -> bytes:
        return (self.server.web.folder / entry["file"]).read_bytes()

    def _head(self, status: int, content_type: str | None, headers: dict[str, str]) -> None:
        self.send_response(status)
        if content_type:
            self.send_header("Content-Type", content_type)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()

    def _send(self, status: int, body: bytes, content_type: str | None, headers: dict[str, str] | None = None) -> None:
        self._head(status, content_type, {"Content-Length": str(len(body)), **(headers or {})})
        self.wfile.write(body)

    def _wait(self, seconds: float) -> bool:
        """Wait; True at once when the client has gone or the server closes."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self.server.web.closing.wait(min(0.1, left)) or select.select([self.connection], [], [], 0)[0]:
                return True
        return False

    def log_message(self, format: str, *args: Any) -> None:
        if self.server.web.loud:
            super().log_message(format, *args)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, web: LocalWeb, address: str, port: int):
        self.web = web
        self._slots = threading.BoundedSemaphore(MAX_THREADS)
        super().__init__((address, port), Handler)

    def server_bind(self) -> None:
        # HTTPServer's own asks the DNS for this machine's name
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]

    def process_request(self, request: Any, client_address: Any) -> None:
        while not self._slots.acquire(timeout=0.2):
            if self.web.closing.is_set():
                self.shutdown_request(request)
                return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are what half of the behaviours are about."""


class LocalWeb:
    """The server as a context manager.

    `folder`: what `python -m curation.sample` wrote; `state`: a file that keeps the request counts, so that
    a URL that heals at the n-th request goes on counting after the process was killed.
    """

    def __init__(
        self,
        folder: str | Path,
        state: str | Path | None = None,
        port: int = 0,
        loud: bool = False,
        address: str = "127.0.0.1",
    ):
        self.folder = Path(folder)
        self.loud = loud
        self.closing = threading.Event()
        self._state, self._port, self._address = state, port, address

    @cached_property
    def behaviour(self) -> dict[str, dict[str, Any]]:
        return json.loads((self.folder / "behaviour.json").read_text())["urls"]

    def __enter__(self) -> LocalWeb:
        _ = self.behaviour  # a missing sample is said here, not in a handler's thread
        self.request_log = RequestLog(Path(self._state) if self._state else None)
        self._server = Server(self, self._address, self._port)
        # bound but not listening: whoever connects is refused, and nobody else can take the port
        self._down = socket.socket()
        self._down.bind((self._address, 0))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._down.close()
        self.request_log.close()

    @property
    def port(self) -> int:
        return self._server.server_port

    @property
    def resolve(self) -> dict[str, str]:
        """For the recipe's `fetch.resolve`: every .test host is here, and one is down."""
        down = self._down.getsockname()[1]
        return {"down.test:80": f"{self._address}:{down}", "*.test:80": f"{self._address}:{self.port}"}


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve the sample's web on 127.0.0.1, to look at it.")
    parser.add_argument("--folder", type=Path, default=cache_dir() / "sample")
    parser.add_argument("--port", type=int, default=8080)
    options = parser.parse_args()
    with LocalWeb(options.folder, port=options.port, loud=True) as web:
        example = next(url for url, entry in web.behaviour.items() if entry["do"] == "file")
        print(f"{len(web.behaviour)} URLs on 127.0.0.1:{web.port}; try, in another terminal:")
        print(f"  curl --connect-to ::127.0.0.1:{web.port} -o picture '{example}'")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("closed")


if __name__ == "__main__":
    main()
