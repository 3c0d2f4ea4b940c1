"""What a Content-Encoding header does to a body: a table. Bodies come in blocks of any size."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator

import pytest

from common.http import content_encoding
from common.http.addresses import FetchFailure
from common.http.content_encoding import undone
from tests.servers.loopback_web import JPEG

ZLIB, RAW, GZIP = zlib.compress(JPEG), zlib.compress(JPEG)[2:-4], gzip.compress(JPEG)
ZEROS = bytes(5_000_000)


def blocks_of(body: bytes, size: int) -> Iterator[bytes]:
    return (body[start : start + size] for start in range(0, len(body), size))


def result(header: str, body: bytes, size: int = 1000, most: int = 500_000) -> bytes | str:
    """The body, or the class of the failure."""
    try:
        return b"".join(undone(blocks_of(body, size), header, most))
    except FetchFailure as failure:
        return failure.error


@pytest.mark.parametrize("size", [1, 1000, 1 << 16])
@pytest.mark.parametrize(
    ("header", "body", "becomes"),
    [
        ("", JPEG, JPEG), ("identity", JPEG, JPEG), ("gzip", GZIP, JPEG), ("x-gzip", GZIP, JPEG), (" GZip ", GZIP, JPEG),
        ("gzip", gzip.compress(JPEG[:100]) + gzip.compress(JPEG[100:]), JPEG), ("gzip", GZIP + b"junk", JPEG),
        ("deflate", ZLIB, JPEG), ("Deflate", RAW, JPEG),
        # several: the last one was put on last
        ("gzip, deflate", zlib.compress(GZIP), JPEG), ("deflate,gzip", gzip.compress(RAW), JPEG),
        ("identity, gzip,", GZIP, JPEG), ("gzip, gzip", gzip.compress(GZIP), JPEG),
        # in name only, or not known: as it is
        ("gzip", JPEG, JPEG), ("deflate", JPEG, JPEG), ("gzip, gzip", GZIP, JPEG), ("br", JPEG, JPEG),
        ("utf-8", JPEG, JPEG), ("zstd", JPEG, JPEG), ("zstd", b"", b""), ("gzip, utf-8", GZIP, JPEG), ("gzip", b"", b""),
        ("deflate", b"", b""), ("br", b"", b""),
        # broken
        ("gzip", GZIP[:-20], "truncated_body"), ("deflate", RAW[:-20], "truncated_body"),
        ("gzip", b"\x1f\x8b\x08" + bytes(7) + b"\xff" * 100, "http_protocol"), ("deflate", b"<html>", "http_protocol"),
        ("zstd", GZIP, "http_protocol"), ("gzip, zstd", GZIP, "http_protocol"), ("zstd, gzip", GZIP, JPEG),
        ("gzip, gzip", gzip.compress(GZIP)[:-20], "truncated_body"), ("gzip," * 6, JPEG, "http_protocol"),
    ],
)  # fmt: skip
def test_what_becomes_of_a_body(header, body, becomes, size):
    assert result(header, body, size) == becomes


@pytest.fixture
def brotli():
    return pytest.importorskip("brotli")


def test_brotli_where_its_module_is_at_hand(brotli):
    packed = brotli.compress(JPEG)
    assert result("br", packed, 1) == result("br", packed, 1 << 16) == result("gzip, br", brotli.compress(GZIP)) == JPEG
    assert result("br", packed[:-20]) == "truncated_body"
    assert result("br", b"<html>" * 100) == "http_protocol"


def test_brotli_without_its_module(monkeypatch):
    monkeypatch.setattr(content_encoding, "brotli", None)
    assert result("br", b"\x8b\x02\x80") == "http_protocol"


def test_no_step_gives_much_more_than_is_wanted(brotli):
    for header, body in (("gzip", gzip.compress(ZEROS)), ("br", brotli.compress(ZEROS, quality=1))):
        steps = [len(piece) for piece in undone(blocks_of(body, 1 << 16), header, 100_000)]
        # what brotli gives in one step it rounds up to its own buffers
        assert max(steps) <= 400_000 and sum(steps) == len(ZEROS), header


def test_what_lies_within_is_within_the_limit_too():
    """Many empty files make a large body that decodes to nothing: nobody would count it."""
    empty = gzip.compress(gzip.compress(b"") * 50_000)
    assert len(empty) < 10_000 and result("gzip, gzip", empty) == "too_many_bytes"
