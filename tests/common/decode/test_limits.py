"""What a header promises is compared with the limits before a pixel is allocated; formats not taken are named."""

from __future__ import annotations

import time
import tracemalloc

import pytest

from common.decode import ImageLimits, Undecodable, decode
from common.decode.header import MAX_PIECES
from tests.common.decode.files import (
    chunk,
    encoded,
    jpeg_of_scans,
    jpeg_with,
    png_claiming,
    png_with,
    segment,
    webp_claiming,
)  # fmt: skip


def refusal(data: bytes, **limits: int) -> str:
    with pytest.raises(Undecodable) as caught:
        decode(data, ImageLimits(**limits))
    assert str(caught.value).startswith(caught.value.reason)
    return caught.value.reason


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (webp_claiming(16383, 16383), "too_many_pixels"),
        (webp_claiming(8900, 8900), "too_much_memory"),
        (webp_claiming(16383, 31), "too_small"),
        (png_claiming(60_000, 60_000), "too_many_pixels"),
        (png_claiming(8900, 8990), "too_many_pixels"),
        (png_claiming(1, 80_000_000), "too_small"),
        (png_claiming(2**32 - 1, 2**32 - 1), "too_many_pixels"),
        (png_claiming(0, 0), "too_small"),
        (jpeg_of_scans(3000), "too_many_scans"),
        (png_with(chunk(b"acTL", b"\0\0\0\2\0\0\0\0")), "animated"),
        (png_with(chunk(b"sRGB", b"\0") * (MAX_PIECES + 1)), "corrupt"),
        (jpeg_with(segment(0xFE, b"") * (MAX_PIECES + 1)), "corrupt"),
    ],
)
def test_a_header_that_promises_too_much_costs_nothing(data, reason):
    tracemalloc.start()
    began = time.process_time()
    try:
        assert refusal(data) == reason
        assert tracemalloc.get_traced_memory()[1] < 10_000_000 + 4 * len(data)
    finally:
        tracemalloc.stop()
    assert time.process_time() - began < 5


@pytest.mark.parametrize("data", [encoded(), encoded(kind="PNG"), encoded(kind="WEBP"), jpeg_of_scans(0)])
def test_the_limits_are_settings_of_the_recipe(data):
    decode(data)
    assert refusal(data, max_memory=8_000) == "too_much_memory"
    assert refusal(data, max_pixels=3_000) == "too_many_pixels"


def test_a_usual_progressive_jpeg_has_few_scans():
    decode(jpeg_of_scans(0), ImageLimits(max_scans=10))
    assert refusal(jpeg_of_scans(0), max_scans=3) == "too_many_scans"
    decode(jpeg_of_scans(20))


@pytest.mark.parametrize("depth", [8, 16])
def test_memory_is_predicted_for_the_mode_that_is_decoded(depth):
    grey = png_claiming(8900, 8900, depth, 0)
    assert refusal(grey, max_memory=(5 if depth == 16 else 4) * 8900 * 8900 - 1) == "too_much_memory"
    assert refusal(grey, max_memory=(5 if depth == 16 else 4) * 8900 * 8900) != "too_much_memory"


def test_short_memory_is_no_fault_of_the_image(monkeypatch):
    from common.decode import decoding

    def short(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(decoding, "_pixels", short)
    with pytest.raises(MemoryError):
        decode(encoded())


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_what_is_said_is_a_function_of_the_bytes(kind):
    whole = encoded(kind=kind)
    for size in range(12, len(whole), len(whole) // 40):
        said = set()
        for _ in range(2):
            try:
                said.add(str(decode(whole[:size]).notes))
            except Undecodable as error:
                said.add(str(error))
        assert len(said) == 1 and "0x" not in said.pop()


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        (b"\0\0\0\x1cftypheic\0\0\0\0mif1heic", "heic"), (b"\0\0\0\x18ftyphevc\0\0\0\0", "heic"),
        (b"\0\0\0\x18ftypheix\0\0\0\0mif1", "heic"), (b"\0\0\0\x18ftypmif1\0\0\0\0mif1", "heic"),
        (b"\0\0\0\x1cftypavif\0\0\0\0mif1", "avif"), (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif", "avif"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "jxl"), (b"\xff\n\xfa", "jxl"), (b"\0\0\0\x0cjP  \r\n\x87\n", "jp2"),
        (b'<svg xmlns="http://www.w3.org/2000/svg">', "svg"), (b'\xef\xbb\xbf<?xml version="1.0"?>\n<SVG>', "svg"),
        (b"<!-- by hand --><svg>", "svg"), (b"<!DOCTYPE html><body>", "html"), (b"\n <html><svg>", "html"),
        (b"%PDF-1.7", "pdf"), (b"II*\0", "tiff"), (b"MM\0*", "tiff"), (b"BM", "bmp"), (b"GIF89a", "gif"),
        (b"\0\0\1\0\1\0", "ico"), (b"8BPS", "psd"), (b"<xml>", "not_an_image"), (b"\0\0\0\x18ftypisom", "not_an_image"),
        (b"text", "not_an_image"), (b"", "empty"),
    ],
)  # fmt: skip
def test_a_format_that_is_not_taken_is_named(start, reason):
    assert refusal(start + bytes(100) if start else b"") == reason
