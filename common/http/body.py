"""The body of an answer: read, freed of its content encoding, and never larger than allowed."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator

from common.http.addresses import FetchFailure
from common.http.content_encoding import undone

BLOCK = 1 << 16  # bytes asked for at a time
FRAMING = 1 << 20  # bytes of headers and chunk sizes that may come beside a body


def read_body(
    response: http.client.HTTPResponse, most: int, progress: Callable[[int], None], truncate: bool = False
) -> bytes:
    """The whole body, decoded, `progress` told its size as it grows. With `truncate` its first `most` bytes.

    gzip, deflate and, where its module is at hand, br are undone though never asked for (http.client says
    `Accept-Encoding: identity`): some servers send nothing else.

    Raises:
        FetchFailure: `too_many_bytes`, before or after decoding, `truncated_body`, or `http_protocol`.
    """
    announced = response.length  # None where it is chunked or not announced
    if announced is not None and announced > most and not truncate:
        raise FetchFailure("too_many_bytes", f"{announced} bytes announced")
    encodings = ",".join(response.headers.get_all("Content-Encoding", []))
    pieces, size = [], 0
    for piece in undone(_sent(response, announced), encodings, most):
        size += len(piece)
        progress(size)
        pieces.append(piece)
        if size > most:
            if truncate:
                break
            raise FetchFailure("too_many_bytes", f"more than {most} bytes")
    return b"".join(pieces)[:most]


def _sent(response: http.client.HTTPResponse, announced: int | None) -> Iterator[bytes]:
    size = 0
    while block := response.read(BLOCK):
        size += len(block)
        yield block
    if announced is not None and size < announced:
        raise FetchFailure("truncated_body", f"{size} of {announced} bytes")
