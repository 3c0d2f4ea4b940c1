"""A safe HTTP client for downloads from unknown servers: an opener for `urllib.request.install_opener`.

img2dataset downloads through `urllib.request.urlopen`, which reads file:///, follows a redirect into a private
network, waits for ever on a server that drips, and reads as much as it is sent. This opener does none of that, and
keeps a record of each request. A record is found again by the fragment of the URL (`#ID`), which is never sent.

It uses none of urllib's handlers, so none for proxies, cookies, ftp, file or data can be left on by mistake.
"""

from __future__ import annotations

import errno
import http.client
import ssl
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from common.decode import sniff
from common.hashing import sha256_of_bytes
from common.http.addresses import AddressBook, FetchFailure
from common.http.connection import Clock, Connection, TLSConnection, tls_context
from common.http.urls import request_url

REDIRECTS = (301, 302, 303, 307, 308)
BLOCK = 1 << 16  # bytes asked for at a time
UNREACHABLE = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.EACCES, errno.EPERM}


@dataclass
class Attempt:
    """The result of one request. It succeeded if `error` is None and `sha256` is not."""

    final_url: str | None = None
    http_status: int | None = None  # of the last hop, if that answered
    bytes: int | None = None  # of the body, as far as it was read
    sha256: str | None = None
    seconds: float = 0.0
    error: str | None = None
    detail: str | None = None


class SafeResponse:
    """What `urlopen` returns: `headers`, and `read()` for the whole body, once."""

    def __init__(self, response: http.client.HTTPResponse, connection: Connection, attempt: Attempt, max_bytes: int):
        self.headers, self.status = response.headers, response.status
        self.max_bytes = max_bytes
        self._response, self._connection, self._attempt = response, connection, attempt

    def __enter__(self) -> SafeResponse:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._attempt.seconds = self._connection.clock.spent
        self._response.close()
        self._connection.close()

    def read(self) -> bytes:
        """The body, an image by its first bytes. Raises FetchFailure."""
        try:
            return self._read()
        except Exception as error:
            raise _recorded(error, self._attempt, self._connection.clock) from error

    def _read(self) -> bytes:
        announced = self._response.length  # None where it is chunked or not announced
        if announced is not None and announced > self.max_bytes:
            raise FetchFailure("too_many_bytes", f"{announced} bytes announced")
        blocks, size = [], 0
        while block := self._response.read(BLOCK):
            size += len(block)
            self._attempt.bytes = size
            if size > self.max_bytes:
                raise FetchFailure("too_many_bytes", f"more than {self.max_bytes} bytes")
            blocks.append(block)
        if announced is not None and size < announced:
            raise FetchFailure("truncated_body", f"{size} of {announced} bytes")
        body = b"".join(blocks)
        if not body:
            raise FetchFailure("empty_body")
        if sniff(body) is None:
            kinds = (self.headers.get(name, "") for name in ("Content-Type", "Content-Encoding"))
            raise FetchFailure("not_an_image", " ".join(filter(None, kinds))[:200])
        self._attempt.sha256 = sha256_of_bytes(body)
        return body


class SafeOpener(urllib.request.OpenerDirector):
    """`open` is GET, over http and https only, with every hop checked. `records`: fragment of the URL -> Attempt.

    Args:
        book: which addresses may be connected to.
        deadline: seconds for one image, redirects included (a look-up of a name is as slow as the system's resolver).
        max_bytes: of one body.
    """

    def __init__(
        self,
        book: AddressBook,
        deadline: float = 30.0,
        max_bytes: int = 50_000_000,
        redirects: int = 10,
        context: ssl.SSLContext | None = None,
    ):
        super().__init__()
        self.book, self.deadline, self.max_bytes, self.redirects = book, deadline, max_bytes, redirects
        self.context = context or tls_context()
        self.records: dict[str, Attempt] = {}

    def open(self, fullurl: urllib.request.Request | str, data: None = None, timeout: float = 10.0) -> SafeResponse:
        """Raises FetchFailure, and nothing else."""
        request = fullurl if isinstance(fullurl, urllib.request.Request) else urllib.request.Request(fullurl)
        attempt = self.records[request.fragment or request.full_url] = Attempt()
        clock = Clock(timeout, self.deadline)
        try:
            return self._follow(request.full_url, dict(request.header_items()), attempt, clock)
        except Exception as error:
            raise _recorded(error, attempt, clock) from error

    def _follow(self, url: str, headers: dict[str, str], attempt: Attempt, clock: Clock) -> SafeResponse:
        for _ in range(self.redirects + 1):
            attempt.final_url = url = request_url(url)
            attempt.http_status = None
            parts = urlsplit(url)
            if parts.scheme == "https":
                connection = TLSConnection(parts.hostname, parts.port or 443, self.book, clock, self.context)
            else:
                connection = Connection(parts.hostname, parts.port or 80, self.book, clock)
            try:
                selector = parts.path + (f"?{parts.query}" if parts.query else "")
                connection.request("GET", selector, headers={**headers, "Connection": "close"})
                response = connection.getresponse()
                attempt.http_status = response.status
                if 200 <= response.status < 300:
                    return SafeResponse(response, connection, attempt, self.max_bytes)
                location = response.headers.get("Location")
                if response.status not in REDIRECTS or location is None:
                    raise FetchFailure(f"http_{response.status}", response.reason[:200])
            except BaseException:
                connection.close()
                raise
            connection.close()  # the body of a redirect is never read
            # http.client decodes headers as Latin-1; what is beyond ASCII goes on as the bytes that it was
            ascii_only = "".join(c if c < "\x80" else f"%{ord(c):02X}" for c in location)
            try:
                url = urljoin(url, ascii_only)
            except ValueError as error:
                raise FetchFailure("bad_url", f"redirect to {ascii_only[:200]}") from error
        raise FetchFailure("too_many_redirects", f"more than {self.redirects}")


def _recorded(error: Exception, attempt: Attempt, clock: Clock) -> FetchFailure:
    failure = classify(error, clock)
    attempt.error, attempt.detail, attempt.seconds = failure.error, failure.detail or None, clock.spent
    return failure


def classify(error: Exception, clock: Clock) -> FetchFailure:
    """The failure, as docs/run-directory.md names it, that an exception means."""
    if isinstance(error, FetchFailure):
        return error
    detail = f"{type(error).__name__}: {error}"[:300]
    if isinstance(error, TimeoutError):
        late = clock.spent >= clock.total
        return FetchFailure("deadline" if late else "timeout", f"after {clock.spent:.1f} s")
    if isinstance(error, http.client.IncompleteRead):
        return FetchFailure("truncated_body", detail)
    if isinstance(error, (ConnectionError, ssl.SSLError)):  # RemoteDisconnected is one
        return FetchFailure("connection", detail)
    if isinstance(error, http.client.InvalidURL):
        return FetchFailure("bad_url", detail)
    if isinstance(error, http.client.HTTPException):
        return FetchFailure("http_protocol", detail)
    if isinstance(error, OSError) and error.errno in UNREACHABLE:
        return FetchFailure("unreachable", detail)
    return FetchFailure("other", detail)


@contextmanager
def installed(opener: urllib.request.OpenerDirector) -> Iterator[None]:
    """`urllib.request.urlopen` of this process goes through `opener` for as long as the context lasts."""
    before = urllib.request._opener
    urllib.request.install_opener(opener)
    try:
        yield
    finally:
        urllib.request.install_opener(before)
