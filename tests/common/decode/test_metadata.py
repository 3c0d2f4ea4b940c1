"""Pixels first: metadata, whatever it is, never costs an image; EXIF alone turns one."""

from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from common.decode import Undecodable, decode
from tests.common.decode.files import (
    PIXELS,
    chunk,
    encoded,
    exif,
    jpeg_with,
    png_with,
    progressive_with,
    segment,
    webp_with,
)

LONG_TEXT = zlib.compress(bytes(100_000_000), 9)
XMP = b'http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/>'

ODD = {
    "PNG, ICC profile of 2 MB": (png_with(chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(2_000_000)))), ""),
    "PNG, ICC profile that is none": (png_with(chunk(b"iCCP", b"x\0\0garbage")), ""),
    "PNG, eXIf without TIFF header": (png_with(chunk(b"eXIf", b"\0\x08\0\x02\x01\x12\0\x03")), "EXIF: no TIFF header"),
    "PNG, eXIf empty": (png_with(chunk(b"eXIf", b"")), "EXIF: no TIFF header"),
    "PNG, text with a wrong checksum": (png_with(chunk(b"tEXt", b"a\0b", wrong=True)), "tEXt: wrong checksum"),
    "PNG, gamma with a wrong checksum": (png_with(chunk(b"gAMA", b"\0\0\0\1", wrong=True)), "gAMA: wrong checksum"),
    "PNG, the same behind the pixels": (
        png_with(chunk(b"tEXt", b"a\0b", wrong=True), after=True), "tEXt: wrong checksum"
    ),
    "PNG, text that ends after the file": (
        png_with(chunk(b"tEXt", b"a\0b"), after=True)[:-15], "tEXt: ends after the file"
    ),
    "PNG, 100 MB of text": (png_with(chunk(b"zTXt", b"a\0\0" + LONG_TEXT)), ""),
    "PNG, 100 MB of international text": (png_with(chunk(b"iTXt", b"a\0\1\0\0\0" + LONG_TEXT)), ""),
    "PNG, time that is too short": (png_with(chunk(b"tIME", b"\0")), ""),
    "JPEG, orientation that is a word": (
        jpeg_with(segment(0xE1, b"Exif\0\0" + exif(26, kind=2, count=4))), "EXIF: the orientation is none of 1 to 8"
    ),
    "JPEG, orientation 9": (jpeg_with(segment(0xE1, b"Exif\0\0" + exif(9))), "EXIF: the orientation is none of 1 to 8"),
    "JPEG, two orientations": (
        jpeg_with(segment(0xE1, b"Exif\0\0" + exif(6, count=2))), "EXIF: the orientation is none of 1 to 8"
    ),
    "JPEG, EXIF cut off": (jpeg_with(segment(0xE1, b"Exif\0\0" + exif()[:14])), "EXIF: ends in its directory"),
    "JPEG, directory beyond the end": (
        jpeg_with(segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\x7f")), "EXIF: ends before its directory"
    ),
    "JPEG, EXIF of nothing": (jpeg_with(segment(0xE1, b"Exif\0\0")), "EXIF: no TIFF header"),
    "JPEG, XMP alone says 6": (jpeg_with(segment(0xE1, XMP)), ""),
    "JPEG, ICC profile that is none": (jpeg_with(segment(0xE2, b"ICC_PROFILE\0\1\1garbage")), ""),
    "JPEG, MPF that is none": (jpeg_with(segment(0xE2, b"MPF\0garbage")), ""),
    "JPEG, Photoshop resources that are none": (jpeg_with(segment(0xED, b"Photoshop 3.0\x008BIM\x04")), ""),
    "JPEG, Adobe's segment without its end": (jpeg_with(segment(0xEE, b"Adobe")), ""),
    "JPEG, comment between scans with an end in it": (progressive_with(segment(0xFE, b"a\xff\xd9b")), ""),
    "JPEG, comment between scans with scans in it": (progressive_with(segment(0xFE, b"\xff\xda" * 50)), ""),
    "JPEG, picture between scans": (progressive_with(segment(0xE2, encoded())), ""),
    "PNG, palette of a picture that needs none": (png_with(chunk(b"PLTE", bytes(9), wrong=True)), ""),
    "PNG, transparency that is too short": (png_with(chunk(b"tRNS", b"\0\1")), "tRNS: of another length"),
    "PNG, transparency of nothing": (png_with(chunk(b"tRNS", b"")), "tRNS: of another length"),
    "PNG, animation that is too short": (png_with(chunk(b"acTL", b"\0")), ""),
    "WebP, EXIF without TIFF header": (webp_with((b"EXIF", b"\0\x08"), flags=8), "EXIF: no TIFF header"),
    "WebP, metadata that is announced and not there": (webp_with(flags=0x2C), ""),
    "WebP, metadata that was not announced": (webp_with((b"ICCP", b"garbage"), flags=0), ""),
    "WebP, XMP alone says 6": (webp_with((b"XMP ", XMP), flags=4), ""),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_metadata_costs_no_image(name):
    data, note = ODD[name]
    plain = decode(encoded(kind={"P": "PNG", "J": "JPEG", "W": "WEBP"}[name[0]]))
    picture = decode(data)
    assert np.array_equal(picture.rgb, plain.rgb)
    assert picture.orientation == 1
    assert picture.notes == ((note,) if note else ())


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", [1, 3, 4])
def test_an_orientation_is_a_number_of_any_width(order, kind):
    data = jpeg_with(segment(0xE1, b"Exif\0\0" + exif(6, order, kind)))
    assert (decode(data).orientation, decode(data).notes) == (6, ())


@pytest.mark.parametrize(
    "data",
    [
        png_with(chunk(b"eXIf", exif())),
        png_with(chunk(b"eXIf", exif()), after=True),
        png_with(chunk(b"eXIf", b"Exif\0\0" + exif())),
        webp_with((b"EXIF", exif()), flags=8),
        webp_with((b"EXIF", b"Exif\0\0" + exif()), flags=0),
        jpeg_with(segment(0xE1, XMP), segment(0xE1, b"Exif\0\0" + exif())),
        jpeg_with(segment(0xE1, b"Exif\0\0" + exif()), segment(0xE1, b"Exif\0\0" + exif(8))),  # the first counts
    ],
)
def test_exif_turns_an_image_of_every_format(data):
    picture = decode(data)
    assert (picture.width, picture.height, picture.rgb.shape, picture.orientation) == (48, 64, (64, 48, 3), 6)


@pytest.mark.parametrize("wrong", [b"IHDR", b"PLTE"])
def test_a_checksum_of_what_makes_pixels_counts(wrong):
    out = io.BytesIO()
    Image.fromarray(PIXELS).quantize(16).save(out, "PNG")
    data = bytearray(out.getvalue())
    place = data.index(wrong)
    size = int.from_bytes(data[place - 4 : place], "big")
    data[place + 4 + size] ^= 1
    with pytest.raises(Undecodable, match="corrupt"):
        decode(bytes(data))
