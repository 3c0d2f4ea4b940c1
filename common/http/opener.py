"""An opener for `urllib.request.install_opener` that downloads images through the safe client.

img2dataset downloads through `urllib.request.urlopen`, which reads file:///, follows a redirect into a private
network, waits for ever on a server that drips, and reads as much as it is sent. This opener does none of that, and
keeps a record of each request. A record is found again by the fragment of the URL (`#ID`), which is never sent.
"""

from __future__ import annotations

import http.client
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from common.decode import sniff
from common.hashing import sha256_of_bytes
from common.http.addresses import FetchFailure
from common.http.client import Answer, Attempt, SafeClient, recorded
from common.http.connection import Clock


class ImageAnswer:
    """What `urlopen` returns: `headers`, and `read()` for the whole body, once."""

    def __init__(self, answer: Answer, attempt: Attempt, clock: Clock):
        self._answer, self._attempt, self._clock = answer, attempt, clock

    @property
    def headers(self) -> http.client.HTTPMessage:
        return self._answer.headers

    def __enter__(self) -> ImageAnswer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._attempt.seconds = self._clock.spent
        self._answer.close()

    def read(self) -> bytes:
        """The body, an image by its first bytes. Raises FetchFailure."""
        body = self._answer.read()
        if not body:
            raise recorded(FetchFailure("empty_body"), self._attempt, self._clock)
        if sniff(body) is None:
            kinds = (self.headers.get(name, "") for name in ("Content-Type", "Content-Encoding"))
            failure = FetchFailure("not_an_image", " ".join(filter(None, kinds))[:200])
            raise recorded(failure, self._attempt, self._clock)
        self._attempt.sha256 = sha256_of_bytes(body)
        return body


class SafeOpener(urllib.request.OpenerDirector):
    """`open` is GET by the client. `records`: fragment of the URL -> Attempt.

    Args:
        deadline: seconds for one image, redirects included (a look-up of a name is as slow as the system's resolver).
    """

    def __init__(self, client: SafeClient, deadline: float = 30.0):
        super().__init__()
        self.client, self.deadline = client, deadline
        self.records: dict[str, Attempt] = {}

    def open(self, fullurl: urllib.request.Request | str, data: None = None, timeout: float = 10.0) -> ImageAnswer:
        """Raises FetchFailure, and nothing else."""
        clock = Clock(timeout, self.deadline)
        try:
            request = fullurl if isinstance(fullurl, urllib.request.Request) else urllib.request.Request(fullurl)
        except ValueError as error:  # "//host/", or no URL at all
            failure = FetchFailure("bad_url", f"{fullurl[:200]}: {error}")
            raise recorded(failure, self.records.setdefault(fullurl, Attempt()), clock) from error
        attempt = self.records[request.fragment or request.full_url] = Attempt()
        answer = self.client.get(request.full_url, dict(request.header_items()), clock, attempt)
        return ImageAnswer(answer, attempt, clock)


@contextmanager
def installed(opener: urllib.request.OpenerDirector) -> Iterator[None]:
    """`urllib.request.urlopen` of this process goes through `opener` for as long as the context lasts."""
    before = urllib.request._opener
    urllib.request.install_opener(opener)
    try:
        yield
    finally:
        urllib.request.install_opener(before)
