"""A safe HTTP client for unknown servers: GET over http and https only, with every redirect checked.

It follows no redirect into a private network, waits for no server that drips, and reads no more than it was told to,
whatever the server announces. It knows no proxies, cookies, ftp, file or data.
"""

from __future__ import annotations

import errno
import http.client
import ssl
from dataclasses import dataclass
from typing import NamedTuple, Protocol
from urllib.parse import urljoin, urlsplit

from common.http.addresses import AddressBook, FetchFailure
from common.http.body import FRAMING, read_body
from common.http.connection import Clock, Connection, TLSConnection, tls_context
from common.http.urls import request_url

REDIRECTS = (301, 302, 303, 307, 308)
UNREACHABLE = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.EACCES, errno.EPERM}


@dataclass
class Attempt:
    """The result of one request. It succeeded if `error` is None and `sha256` is not."""

    final_url: str | None = None
    http_status: int | None = None  # of the last hop, if that answered
    bytes: int | None = None  # of the decoded body, as far as it was read
    sha256: str | None = None
    seconds: float = 0.0
    error: str | None = None
    detail: str | None = None


class Gate(Protocol):
    """Decides about each request, those that redirects lead to among them. Any of these may raise FetchFailure."""

    def enter(self, url: str, headers: dict[str, str]) -> None:
        """Before the request; may wait as long as it likes."""

    def answered(self, url: str, status: int, headers: http.client.HTTPMessage) -> None:
        """Between the headers of the answer and its body."""

    def leave(self, url: str) -> None:
        """After the connection is closed; once for each `enter` that came back."""


class OpenGate:
    """Lets everything through."""

    def enter(self, url: str, headers: dict[str, str]) -> None:
        pass

    def answered(self, url: str, status: int, headers: http.client.HTTPMessage) -> None:
        pass

    def leave(self, url: str) -> None:
        pass


class BodyLimit(NamedTuple):
    """The most bytes of a body; `truncate`: what is beyond is left out, else it is a failure."""

    bytes: int
    truncate: bool


class Answer:
    """An answer with a status of 200 to 299: its headers, its body once `read`, its connection until `close`."""

    def __init__(
        self,
        response: http.client.HTTPResponse,
        connection: Connection,
        attempt: Attempt,
        limit: BodyLimit,
        gate: Gate,
    ):
        self.headers, self.status = response.headers, response.status
        self._response, self._connection, self._attempt, self._limit, self._gate = (
            response, connection, attempt, limit, gate,
        )  # fmt: skip

    def read(self) -> bytes:
        """The decoded body. Raises FetchFailure."""
        try:
            return read_body(self._response, self._limit.bytes, self._count, self._limit.truncate)
        except Exception as error:
            raise recorded(error, self._attempt, self._connection.clock) from error

    def close(self) -> None:
        self._response.close()
        self._connection.close()
        self._gate.leave(self._attempt.final_url)

    def _count(self, size: int) -> None:
        self._attempt.bytes = size


class SafeClient:
    """GET, with every hop checked.

    Args:
        book: which addresses may be connected to.
        gate: asked before each request and before each body.
        max_bytes: of one body.
        redirects: followed at most.
        truncate: a body of more than `max_bytes` is cut there instead of refused.
    """

    def __init__(
        self,
        book: AddressBook,
        gate: Gate | None = None,
        max_bytes: int = 50_000_000,
        redirects: int = 10,
        context: ssl.SSLContext | None = None,
        truncate: bool = False,
    ):
        self.book, self.gate, self.redirects = book, gate or OpenGate(), redirects
        self.limit = BodyLimit(max_bytes, truncate)
        self.context = context or tls_context()

    def get(self, url: str, headers: dict[str, str], clock: Clock, attempt: Attempt) -> Answer:
        """The answer, to be closed by the caller; `attempt` is filled in. Raises FetchFailure, and nothing else."""
        try:
            return self._follow(url, headers, clock, attempt)
        except Exception as error:
            raise recorded(error, attempt, clock) from error

    def _follow(self, url: str, headers: dict[str, str], clock: Clock, attempt: Attempt) -> Answer:
        for _ in range(self.redirects + 1):
            attempt.final_url = url = request_url(url)
            attempt.http_status = None
            with clock.stopped():
                self.gate.enter(url, headers)
            answer = self._ask(url, headers, clock, attempt)
            if isinstance(answer, Answer):
                return answer
            # http.client decodes headers as Latin-1; what is beyond ASCII goes on as the bytes that it was
            location = "".join(c if c < "\x80" else f"%{ord(c):02X}" for c in answer)
            try:
                url = urljoin(url, location)
            except ValueError as error:
                raise FetchFailure("bad_url", f"redirect to {location[:200]}") from error
        raise FetchFailure("too_many_redirects", f"more than {self.redirects}")

    def _ask(self, url: str, headers: dict[str, str], clock: Clock, attempt: Attempt) -> Answer | str:
        """The answer to one request, or where it redirects to. The body of a redirect is never read."""
        connection = self._connection(url, clock)
        answer = None
        try:
            parts = urlsplit(url)
            selector = parts.path + (f"?{parts.query}" if parts.query else "")
            connection.request("GET", selector, headers={**headers, "Connection": "close"})
            response = connection.getresponse()
            attempt.http_status = response.status
            self.gate.answered(url, response.status, response.headers)
            if 200 <= response.status < 300:
                answer = Answer(response, connection, attempt, self.limit, self.gate)
                return answer
            location = response.headers.get("Location")
            if response.status not in REDIRECTS or location is None:
                raise FetchFailure(f"http_{response.status}", response.reason[:200])
            return location
        finally:
            if answer is None:
                connection.close()
                self.gate.leave(url)

    def _connection(self, url: str, clock: Clock) -> Connection:
        parts, most = urlsplit(url), self.limit.bytes + FRAMING
        if parts.scheme == "https":
            return TLSConnection(parts.hostname, parts.port or 443, self.book, clock, most, self.context)
        return Connection(parts.hostname, parts.port or 80, self.book, clock, most)


def recorded(error: Exception, attempt: Attempt, clock: Clock) -> FetchFailure:
    """The failure that an exception means, also written down in `attempt`."""
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
