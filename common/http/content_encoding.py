"""Undoes the Content-Encoding of a body, block by block, so that a small body cannot become a large one unseen."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from itertools import chain

from common.decode import sniff
from common.http.addresses import FetchFailure

try:  # not asked for by what curation needs; the demo's packages bring it
    import brotli
except ImportError:
    brotli = None
BROKEN = (zlib.error, brotli.error) if brotli else (zlib.error,)

BLOCK = 1 << 20  # bytes that one step of decoding may give
MOST_CODINGS = 5  # one over the other
CODINGS = frozenset("deflate br zstd compress x-compress dcb dcz".split())  # registered with IANA, beside gzip
RECOGNISED = 512  # bytes by which a body is known for what it is
GZIP_OR_ZLIB, RAW = 47, -15  # what zlib calls `wbits`

Blocks = Iterator[bytes]


def undone(blocks: Blocks, header: str, most: int) -> Blocks:
    """The body freed of the codings that `header` lists, the last one first.

    An image that is labelled so and is not coded comes as it is, and so does anything under a label that is no coding
    (`utf-8`). Another body in a coding that cannot be undone here is a failure: rules that cannot be read are not none.

    Args:
        most: bytes that anybody wants: no coding but the innermost may give more, and none much more at a time.

    Raises:
        FetchFailure: `http_protocol`, `truncated_body`, or `too_many_bytes` within the codings.
    """
    codings = [coding for piece in header.split(",") if (coding := piece.strip().lower()) not in ("", "identity")]
    if len(codings) > MOST_CODINGS:
        raise FetchFailure("http_protocol", f"{len(codings)} content encodings over one another")
    for number, coding in enumerate(reversed(codings)):
        blocks = _undo(_at_most(blocks, most) if number else blocks, coding, min(BLOCK, most + 1))
    return blocks


def _at_most(blocks: Blocks, most: int) -> Blocks:
    size = 0
    for block in blocks:
        size += len(block)
        if size > most:
            raise FetchFailure("too_many_bytes", f"more than {most} bytes within a content encoding")
        yield block


def _undo(blocks: Blocks, coding: str, step: int) -> Blocks:
    first = b""
    while len(first) < RECOGNISED and (block := next(blocks, None)) is not None:
        first += block
    whole, decode = chain((first,), blocks), _decoder(first, coding, step)
    try:
        yield from decode(whole) if decode else whole
    except BROKEN as error:
        raise FetchFailure("http_protocol", f"Content-Encoding {coding}: {error}") from error
    except EOFError as error:
        raise FetchFailure("truncated_body", f"Content-Encoding {coding} without its end") from error


def _decoder(first: bytes, coding: str, step: int) -> Callable[[Blocks], Blocks] | None:
    """What undoes a body that begins so, or None where there is nothing to undo."""
    if coding in ("gzip", "x-gzip"):
        return (lambda blocks: _inflated(blocks, GZIP_OR_ZLIB, step)) if first.startswith(b"\x1f\x8b") else None
    if coding not in CODINGS or not first or sniff(first):
        return None
    if coding == "br" and brotli:
        return lambda blocks: _unbrotlied(blocks, step)
    if coding != "deflate":
        raise FetchFailure("http_protocol", f"Content-Encoding {coding} cannot be undone here")
    zlib_header = len(first) > 1 and first[0] & 0x0F == 8 and (first[0] << 8 | first[1]) % 31 == 0
    return lambda blocks: _inflated(blocks, GZIP_OR_ZLIB if zlib_header else RAW, step)


def _inflated(blocks: Blocks, bits: int, step: int) -> Blocks:
    """Raises zlib.error, and EOFError where the end is missing."""
    decoder = zlib.decompressobj(bits)
    block: bytes | None = next(blocks)
    while block is not None:
        yield decoder.decompress(block, step)
        if decoder.eof and decoder.unused_data.startswith(b"\x1f\x8b"):  # gzip files may follow one another
            block, decoder = decoder.unused_data, zlib.decompressobj(bits)
        elif decoder.unconsumed_tail:
            block = decoder.unconsumed_tail
        else:
            block = next(blocks, None)
            if decoder.eof:
                return  # what comes after the end is nobody's
    if not decoder.eof:
        raise EOFError


def _unbrotlied(blocks: Blocks, step: int) -> Blocks:
    """Raises brotli.error, and EOFError where the end is missing."""
    decoder = brotli.Decompressor()
    for block in blocks:
        piece = decoder.process(block, output_buffer_limit=step)
        yield piece
        while piece and not decoder.is_finished():
            piece = decoder.process(b"", output_buffer_limit=step)
            yield piece
        if decoder.is_finished():
            return
    raise EOFError
