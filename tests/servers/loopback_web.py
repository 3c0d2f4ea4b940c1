"""A web server on 127.0.0.1 that misbehaves as asked, and the opener that is tested against it."""

from __future__ import annotations

import contextlib
import gzip
import socket
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from common.http.addresses import AddressBook, FetchFailure
from common.http.client import Attempt, SafeClient
from common.http.opener import SafeOpener, installed

JPEG = b"\xff\xd8\xff" + bytes(range(256)) * 40
LOOPBACK = ["127.0.0.0/8"]


class Web(BaseHTTPRequestHandler):
    """The last part of the path says how to behave."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.seen.append((self.path, dict(self.headers)))
        name = urlsplit(self.path).path.rsplit("/", 1)[-1]
        behave = getattr(self, f"do_{name}", None)
        if name.isdecimal():
            self.answer(int(name), b"no")
        elif behave:
            behave()
        else:
            self.answer(200, JPEG)

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        fields = {"Content_Type": "image/jpeg", "Content_Length": str(len(body)), **headers}
        for name, value in fields.items():
            if value:
                self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def redirect(self, location: str, status: int = 302) -> None:
        # a redirect announces a body that never comes: whoever reads it hangs
        self.send_response(status)
        self.send_header("Location", location)
        self.send_header("Content-Length", "1000000")
        self.end_headers()

    def do_moved(self) -> None:
        self.redirect("/a/picture?x=1")

    def do_to(self) -> None:
        self.redirect(self.path.partition("?")[2], 307)

    def do_latin(self) -> None:
        self.redirect("/caf\xe9 au lait.jpg")

    def do_loop(self) -> None:
        self.redirect("/loop", 301)

    def do_html(self) -> None:
        self.answer(200, b"<html>not found</html>", Content_Type="text/html")

    def do_empty(self) -> None:
        self.answer(200, b"")

    def do_truncated(self) -> None:
        self.answer(200, JPEG, Content_Length=str(len(JPEG) + 1))
        self.close_connection = True

    def do_chunked(self) -> None:
        self.answer(200, b"%x\r\n%s\r\n0\r\n\r\n" % (len(JPEG), JPEG), Content_Length="", Transfer_Encoding="chunked")

    def do_half_chunk(self) -> None:
        self.answer(200, b"%x\r\n%s" % (2 * len(JPEG), JPEG), Content_Length="", Transfer_Encoding="chunked")
        self.close_connection = True

    def do_huge(self) -> None:
        self.answer(200, JPEG, Content_Length="300000000")

    def do_endless(self) -> None:
        self.answer(200, JPEG, Content_Length="")
        self.drip(b"\0" * 65536, pause=0.0)

    def do_negative_chunk(self) -> None:
        self.answer(200, b"-1\r\n" + JPEG, Content_Length="", Transfer_Encoding="chunked")
        self.drip(b"\0" * 65536, pause=0.0)

    def encoded(self, encoding: str, body: bytes) -> None:
        self.answer(200, body, Content_Encoding=encoding)

    def do_gzip(self) -> None:
        self.encoded("gzip", gzip.compress(JPEG))

    def do_bomb(self) -> None:
        self.encoded("gzip", gzip.compress(JPEG + bytes(100_000_000), 1))

    def do_zstd(self) -> None:
        self.encoded("zstd", b"\x28\xb5\x2f\xfd" + JPEG)

    def do_dripping(self) -> None:
        self.answer(200, JPEG, Content_Length="100000")
        self.drip(b"\0", pause=0.05)

    def do_dripping_header(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        self.drip(b"a", pause=0.05)

    def do_silent(self) -> None:
        self.server.stop.wait(5)

    def do_nonsense(self) -> None:
        self.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
        self.close_connection = True

    def do_reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.connection.close()
        self.close_connection = True

    def do_noai(self) -> None:
        self.answer(200, JPEG, X_Robots_Tag="noai", Set_Cookie="track=1")

    def drip(self, data: bytes, pause: float) -> None:
        try:
            while not self.server.stop.wait(pause):
                self.wfile.write(data)
        except OSError:
            pass
        self.close_connection = True

    def finish(self) -> None:
        try:
            super().finish()
        except OSError:
            pass

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    request_queue_size = 256

    def __init__(self, handler: type[Web]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.stop = threading.Event()

    def handle_error(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def serving(handler: type[Web] = Web) -> Iterator[Server]:
    server = Server(handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.stop.set()
        server.shutdown()
        server.server_close()
        thread.join()


def opener_for(web: Server | None, lookup=None, deadline: float = 30.0, **options) -> SafeOpener:
    resolve = {"*.test:80": f"127.0.0.1:{web.server_port}"} if web else {}
    return SafeOpener(SafeClient(AddressBook(resolve, LOOPBACK if web else [], lookup), **options), deadline)


def get(opener: SafeOpener, url: str, timeout: float = 2.0) -> tuple[bytes | None, Attempt]:
    """(body or None, record) of one request, made as img2dataset makes it."""
    with installed(opener):
        try:
            request = urllib.request.Request(f"{url}#0123456789abcdef", headers={"User-Agent": "test"})
            with urllib.request.urlopen(request, timeout=timeout) as response:
                body = response.read()
        except FetchFailure:
            body = None
    return body, opener.records["0123456789abcdef"]


def answers(*addresses: str):
    """A resolver that says these for every name."""

    def lookup(host, port, **_):
        family = {True: socket.AF_INET6, False: socket.AF_INET}
        return [
            (family[":" in a], socket.SOCK_STREAM, 6, "", (a, port, 0, 0) if ":" in a else (a, port)) for a in addresses
        ]

    return lookup
