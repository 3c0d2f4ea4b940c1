"""What an image's file says before a pixel is decoded, and the file without all that is no pixel.

Decoders are given only what makes pixels: metadata, whatever its size, its checksum or its content, costs no image. The
sizes, scans and frames that are compared with limits are read from those very bytes.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from common.decode.exif import orientation_of
from common.decode.limits import Undecodable

MAX_PIECES = 100_000  # segments or chunks: a file of millions of empty ones would take seconds
PNG_START = b"\x89PNG\r\n\x1a\n"
PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
JPEG_PIXELS = {0xC4, 0xCC, 0xDB, 0xDD, 0xE0}  # tables, and JFIF's, which says what the channels are; so does Adobe's
SCAN = 0xDA
AFTER_SCAN = re.compile(rb"\xff[\xc4\xcc\xd9-\xdd\xe0-\xef\xfe]")  # tables, scans, metadata, the end of the image
JPEG_SIZES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
WEBP_METADATA = 0x2C  # of the flags in VP8X: ICC, EXIF, XMP


@dataclass
class Header:
    """What a file says of its image, in the stored frame.

    `memory`: bytes that decoding it at full size takes; `scans`: of a JPEG; `pixels`: the file without metadata.
    """

    width: int = 0
    height: int = 0
    frames: int = 1
    scans: int = 1
    memory: int = 0
    orientation: int = 1
    notes: list[str] = field(default_factory=list)
    pixels: bytes = b""

    def read_exif(self, block: bytes) -> None:
        self.orientation, note = orientation_of(block)
        self.notes += [note] if note else []


def read_header(data: bytes, kind: str) -> Header:
    """The header of a "jpeg", "png" or "webp".

    Raises:
        Undecodable: `truncated` or `corrupt`.
    """
    return {"jpeg": _jpeg, "png": _png, "webp": _webp}[kind](data)


# -- JPEG --------------------------------------------------------------------------------------------------------


def _jpeg(data: bytes) -> Header:
    header, kept, exif, size, scans = Header(), [data[:2]], None, None, 0
    for marker, place, end in _jpeg_segments(data):
        body = data[place + 4 : end]
        if marker in JPEG_SIZES:
            size = marker, body
        adobe = marker == 0xEE and body.startswith(b"Adobe") and len(body) >= 12
        if marker in JPEG_SIZES or marker in JPEG_PIXELS or adobe or marker == SCAN:
            kept.append(data[place:end])
        elif marker == 0xE1 and body.startswith(b"Exif\0\0") and exif is None:
            exif = body
        scans += marker == SCAN
    if not scans:
        raise Undecodable("truncated", "ends before its pixels")
    header.scans = scans
    if size is None or len(size[1]) < 6 or len(size[1]) < 6 + 3 * size[1][5]:
        raise Undecodable("corrupt", "no size before the pixels")
    marker, body = size
    header.height, header.width = struct.unpack(">HH", body[1:5])
    sampling = [(factors >> 4, factors & 15) for factors in body[7 : 6 + 3 * body[5] : 3]]
    channels = len(sampling)
    # Pillow keeps 1 or 4 bytes a pixel; then come 3 of ours; a decoder that goes over all of an image's coefficients
    # several times keeps them, 2 bytes each
    each = (1 if channels == 1 else 4) + 3.0
    if header.scans > 1 or marker in (0xC2, 0xCA):
        widest, highest = max(h for h, _ in sampling), max(v for _, v in sampling)
        each += 2 * sum(h * v for h, v in sampling) / max(1, widest * highest)
    header.memory = int(header.width * header.height * each)
    if exif is not None:
        header.read_exif(exif)
    header.pixels = b"".join(kept)
    return header


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, where it begins, where it ends) of each segment; a scan's data belong to it, the end of the image to the
    last of them. What follows that end is another picture (MPO) or nothing, and is not looked at."""
    place = 2
    for _ in range(MAX_PIECES):
        place = data.find(b"\xff", place)
        while place >= 0 and data[place + 1 : place + 2] == b"\xff":
            place += 1
        if place < 0 or place + 4 > len(data):
            return
        marker = data[place + 1]
        if marker <= 0x01 or 0xD0 <= marker <= 0xD9:  # has no length, or is no marker
            place += 2
            continue
        end = place + 2 + max(2, int.from_bytes(data[place + 2 : place + 4], "big"))
        if end > len(data):
            return
        if marker == SCAN:
            following = AFTER_SCAN.search(data, end)
            last = following is None or data[following.end() - 1] == 0xD9
            end = len(data) if following is None else following.end() if last else following.start()
            yield marker, place, end
            if last:
                return
        else:
            yield marker, place, end
        place = end
    raise Undecodable("corrupt", f"more than {MAX_PIECES:,} segments")


# -- PNG ---------------------------------------------------------------------------------------------------------


def _png(data: bytes) -> Header:
    if data[12:16] != b"IHDR" or len(data) < 33:
        raise Undecodable("truncated" if len(data) < 33 else "corrupt", "no IHDR")
    header = Header()
    header.width, header.height, depth, colour = struct.unpack(">IIBB", data[16:26])
    channels = PNG_CHANNELS.get(colour, 4)
    kept, started, palette = [PNG_START, data[8:33]], False, 0
    for name, place, end in _png_chunks(data):
        size = end - place - 12
        if name == b"PLTE" and colour == 3 and not started:  # to other colours it is a suggestion
            palette = size // 3
            kept.append(data[place:end])
        elif name == b"tRNS" and not started:
            if size == {0: 2, 2: 6}.get(colour) or (colour == 3 and 0 < size <= palette):
                kept.append(data[place:end])
            else:
                header.notes.append("tRNS: of another length")
        elif name == b"IDAT":
            kept.append(data[place:end])
            started = True
        elif name == b"IEND":
            break
        elif name == b"acTL" and not started and size == 8:
            header.frames = max(1, int.from_bytes(data[place + 8 : place + 12], "big"))
        elif name[:1].islower():
            _read_png_metadata(header, name, data[place:end])
    if len(kept[-1]) < 12 or int.from_bytes(kept[-1][:4], "big") == len(kept[-1]) - 12:
        kept.append(b"\0\0\0\0IEND\xaeB`\x82")
    # bytes a pixel: Pillow's, ours; of transparency and of 16 bits a strip at a time is converted
    stored = 2 if (colour, depth) == (0, 16) else 1 if channels == 1 else 4
    header.memory = header.width * header.height * (stored + 3)
    header.pixels = b"".join(kept)
    return header


def _read_png_metadata(header: Header, name: bytes, chunk: bytes) -> None:
    text = name.decode("ascii", "replace")
    if len(chunk) < 12 or int.from_bytes(chunk[:4], "big") != len(chunk) - 12:
        header.notes.append(f"{text}: ends after the file")
    elif zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
        header.notes.append(f"{text}: wrong checksum")
    elif name == b"eXIf":
        header.read_exif(chunk[8:-4])


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(name, where it begins, where it ends) of each chunk behind IHDR; the last may be cut off by the end."""
    place = 33
    for _ in range(MAX_PIECES):
        if place + 8 > len(data):
            return
        size, name = struct.unpack_from(">I4s", data, place)
        yield name, place, min(place + 12 + size, len(data))
        place += 12 + size
    raise Undecodable("corrupt", f"more than {MAX_PIECES:,} chunks")


# -- WebP --------------------------------------------------------------------------------------------------------


def _webp(data: bytes) -> Header:
    header, kept, sizes, frames = Header(), [], [], 0
    for name, place, end in _webp_chunks(data):
        body = data[place + 8 : end]
        if name == b"VP8X" and len(body) >= 10:
            sizes.append((1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")))
            kept.append(data[place : place + 8] + bytes([body[0] & ~WEBP_METADATA]) + data[place + 9 : end])
        elif name == b"VP8 " and len(body) >= 10:
            width, height = struct.unpack("<HH", body[6:10])
            sizes.append((width & 0x3FFF, height & 0x3FFF))
        elif name == b"VP8L" and len(body) >= 5:
            bits = int.from_bytes(body[1:5], "little")
            sizes.append((1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)))
        elif name == b"EXIF":
            header.read_exif(body)
        frames += name == b"ANMF"
        if name in (b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF"):
            kept.append(data[place:end])
    if not sizes:
        raise Undecodable("truncated", "ends before its pixels")
    header.width, header.height = (max(size[axis] for size in sizes) for axis in (0, 1))
    header.frames = max(1, frames)
    # the decoder's two canvases, its answer and Pillow's picture, 4 bytes each; the decoder's own planes; then ours
    header.memory = header.width * header.height * 21
    body = b"WEBP" + b"".join(kept)
    header.pixels = b"RIFF" + len(body).to_bytes(4, "little") + body
    return header


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(name, where it begins, where it ends, filled up to an even size) of each chunk."""
    place = 12
    for _ in range(MAX_PIECES):
        if place + 8 > len(data):
            return
        name, size = struct.unpack_from("<4sI", data, place)
        following = place + 8 + size + size % 2
        yield name, place, min(following, len(data))
        if name in (b"VP8 ", b"VP8L") and place + 8 + size > len(data):
            raise Undecodable("truncated", "ends in its pixels")
        place = following
    raise Undecodable("corrupt", f"more than {MAX_PIECES:,} chunks")
