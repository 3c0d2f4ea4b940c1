"""The body of an answer: read, freed of its content encoding, and never larger than allowed."""

from __future__ import annotations

import http.client
import zlib
from collections.abc import Callable, Iterator

from common.decode import sniff
from common.http.addresses import FetchFailure

BLOCK = 1 << 16  # bytes asked for at a time
FRAMING = 1 << 20  # bytes of headers and chunk sizes that may come beside a body
GZIP_OR_ZLIB, RAW = 47, -15  # what zlib calls `wbits`


def read_body(
    response: http.client.HTTPResponse, most: int, progress: Callable[[int], None], truncate: bool = False
) -> bytes:
    """The whole body, decoded, `progress` told its size as it grows. With `truncate` its first `most` bytes.

    gzip and deflate are undone though never asked for: some servers send nothing else. A body that is labelled so and is
    not, or in another encoding, comes as it is.

    Raises:
        FetchFailure: `too_many_bytes`, before or after decoding, or `truncated_body`.
    """
    announced = response.length  # None where it is chunked or not announced
    if announced is not None and announced > most and not truncate:
        raise FetchFailure("too_many_bytes", f"{announced} bytes announced")
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    pieces, size = [], 0
    for piece in _decoded(_sent(response, announced), encoding, most):
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


def _decoded(blocks: Iterator[bytes], encoding: str, most: int) -> Iterator[bytes]:
    first = next(blocks, b"")
    bits = _window_bits(first, encoding)
    if bits is None:
        yield first
        yield from blocks
        return
    decoder = zlib.decompressobj(bits)
    block: bytes | None = first
    try:
        while block is not None:
            # no more at a time than is still of use: a bomb of 1 kB would otherwise be 1 MB before anyone counts
            yield decoder.decompress(block, min(BLOCK * 16, most + 1))
            if decoder.eof and decoder.unused_data.startswith(b"\x1f\x8b"):  # gzip files may follow one another
                block, decoder = decoder.unused_data, zlib.decompressobj(bits)
            elif decoder.unconsumed_tail:
                block = decoder.unconsumed_tail
            else:
                block = next(blocks, None)
                if decoder.eof:
                    break
    except zlib.error as error:
        raise FetchFailure("http_protocol", f"Content-Encoding {encoding}: {error}") from error
    if not decoder.eof:
        raise FetchFailure("truncated_body", f"Content-Encoding {encoding} without its end")


def _window_bits(first: bytes, encoding: str) -> int | None:
    """How zlib is to read a body that begins so, or None where there is nothing to undo."""
    if encoding in ("gzip", "x-gzip"):
        return GZIP_OR_ZLIB if first.startswith(b"\x1f\x8b") else None
    if encoding == "deflate":
        zlib_header = len(first) > 1 and first[0] & 0x0F == 8 and (first[0] << 8 | first[1]) % 31 == 0
        return GZIP_OR_ZLIB if zlib_header else None if sniff(first) else RAW
    return None
