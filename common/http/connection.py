"""HTTP connections with limits of time and size: every read of headers and body alike goes through `recv_into`."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from common.http.addresses import AddressBook, FetchFailure


class Clock:
    """The time limits of one image: `idle` seconds without a byte, `total` seconds with redirects."""

    def __init__(self, idle: float, total: float):
        self.idle, self.total = idle, total
        self.started = time.monotonic()

    @property
    def spent(self) -> float:
        return time.monotonic() - self.started

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """What is done inside takes no time of this clock."""
        before = time.monotonic()
        try:
            yield
        finally:
            self.started += time.monotonic() - before

    def wait(self) -> float:
        """Seconds that the next wait on the network may take. Raises `deadline` when there are none left."""
        left = self.total - self.spent
        if left <= 0:
            raise FetchFailure("deadline", f"not done after {self.total:g} s")
        return min(self.idle, left)


class _Limited:
    """Socket whose every read is within the limits of its clock and of `most` bytes in all.

    The bytes are counted here, before any of the framing is believed: http.client reads a chunk of size -1 to the end.
    """

    clock: Clock
    most: int
    received = 0

    def recv_into(self, *arguments: Any, **options: Any) -> int:
        self.settimeout(self.clock.wait())
        size = super().recv_into(*arguments, **options)
        self.received += size
        if self.received > self.most:
            raise FetchFailure("too_many_bytes", f"more than {self.most} bytes were sent, headers and framing included")
        return size


class LimitedSocket(_Limited, socket.socket):
    pass


class LimitedTLSSocket(_Limited, ssl.SSLSocket):
    pass


def tls_context() -> ssl.SSLContext:
    """TLS with the system's certificates, HTTP/1.1 only."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


class Connection(http.client.HTTPConnection):
    """HTTP to an address that the book allows, every wait within the limits of the clock, `most` bytes in all."""

    def __init__(self, host: str, port: int, book: AddressBook, clock: Clock, most: int):
        super().__init__(host, port)
        self.book, self.clock, self.most = book, clock, most

    def connect(self) -> None:
        refused: OSError | None = None
        for family, address in self.book.endpoints(self.host, self.port):
            self.sock = LimitedSocket(family, socket.SOCK_STREAM)
            self.sock.clock, self.sock.most = self.clock, self.most
            try:
                self.sock.settimeout(self.clock.wait())
                self.sock.connect(address)
                return
            except OSError as error:  # the next address may answer
                self.sock.close()
                refused = error
        raise refused


class TLSConnection(Connection):
    """The same over TLS, with the certificate checked for the host."""

    default_port = 443

    def __init__(self, host: str, port: int, book: AddressBook, clock: Clock, most: int, context: ssl.SSLContext):
        super().__init__(host, port, book, clock, most)
        self.context = context
        context.sslsocket_class = LimitedTLSSocket

    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(self.clock.wait())
        try:
            self.sock = self.context.wrap_socket(self.sock, server_hostname=self.host)
        except ssl.SSLEOFError as error:
            raise ConnectionResetError(str(error)) from error
        except ssl.SSLError as error:
            raise FetchFailure("tls", str(error)) from error
        self.sock.clock, self.sock.most = self.clock, self.most
