"""Image files made by hand: the parts that an encoder would not write."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

PIXELS = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)


def encoded(array: np.ndarray = PIXELS, kind: str = "JPEG", **options) -> bytes:
    out = io.BytesIO()
    Image.fromarray(array).save(out, kind, **options)
    return out.getvalue()


def exif(orientation: int = 6, order: str = "<", kind: int = 3, count: int = 1) -> bytes:
    """A TIFF header and a directory with one tag, the orientation."""
    start = b"II*\0" if order == "<" else b"MM\0*"
    value = struct.pack(order + {1: "Bxxx", 3: "Hxx", 4: "I"}.get(kind, "I"), orientation)
    return start + struct.pack(order + "IHHHI", 8, 1, 0x0112, kind, count) + value + bytes(4)


def chunk(name: bytes, body: bytes, wrong: bool = False) -> bytes:
    checksum = zlib.crc32(name + body) ^ wrong
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", checksum)


def png_with(*chunks: bytes, after: bool = False, data: bytes | None = None) -> bytes:
    """A PNG with chunks put before its pixels, or `after` them."""
    data = data or encoded(kind="PNG")
    place = data.index(b"IEND" if after else b"IDAT") - 4
    return data[:place] + b"".join(chunks) + data[place:]


def png_claiming(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def jpeg_with(*segments: bytes, data: bytes | None = None) -> bytes:
    data = data or encoded()
    return data[:2] + b"".join(segments) + data[2:]


def progressive_with(*segments: bytes) -> bytes:
    """A progressive JPEG with segments put between its first scan and its second."""
    data = encoded(progressive=True)
    place = data.index(b"\xff\xc4", data.index(b"\xff\xda"))
    return data[:place] + b"".join(segments) + data[place:]


def jpeg_of_scans(extra: int, side: int = 64) -> bytes:
    """A progressive JPEG whose first scan is followed by `extra` empty refinements."""
    out = io.BytesIO()
    Image.new("L", (side, side), 128).save(out, "JPEG", progressive=True)
    data = out.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * extra + data[-2:]


def webp_claiming(width: int, height: int) -> bytes:
    """A few bytes of lossless WebP."""
    bits = (width - 1) | (height - 1) << 14 | 1 << 28
    body = b"\x2f" + struct.pack("<I", bits) + bytes(13)
    return b"RIFF" + struct.pack("<I", 12 + len(body)) + b"WEBPVP8L" + struct.pack("<I", len(body)) + body


def webp_with(*chunks: tuple[bytes, bytes], flags: int) -> bytes:
    """A lossy WebP in the extended form, with chunks behind its pixels."""
    plain = encoded(kind="WEBP")[12:]
    size = (PIXELS.shape[1] - 1).to_bytes(3, "little") + (PIXELS.shape[0] - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes([flags, 0, 0, 0]) + size + plain
    for name, content in chunks:
        body += name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body
