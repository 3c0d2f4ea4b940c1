"""What a file is, by its first bytes."""

from __future__ import annotations

DECODED = ("jpeg", "png", "webp")
# images, whether they are decoded here or not; a refused one is refused by its name
IMAGES = (*DECODED, "gif", "bmp", "tiff", "ico", "psd", "jp2", "jxl", "heic", "avif", "svg")
DOCUMENTS = ("html", "pdf")
STARTS = {
    b"\xff\xd8\xff": "jpeg",
    b"\x89PNG\r\n\x1a\n": "png",
    b"GIF87a": "gif",
    b"GIF89a": "gif",
    b"BM": "bmp",
    b"II*\0": "tiff",
    b"MM\0*": "tiff",
    b"II+\0": "tiff",  # BigTIFF
    b"MM\0+": "tiff",
    b"\0\0\1\0": "ico",
    b"8BPS": "psd",
    b"\0\0\0\x0cjP  \r\n\x87\n": "jp2",
    b"\xffO\xffQ": "jp2",  # a bare codestream
    b"\0\0\0\x0cJXL \r\n\x87\n": "jxl",
    b"\xff\n": "jxl",  # a bare codestream
    b"%PDF-": "pdf",
}
# brands of ISO base media files; a file has one major brand and a list of compatible ones
BRANDS = {b"avif": "avif", b"avis": "avif", b"hei": "heic", b"hev": "heic", b"mif1": "heic", b"msf1": "heic"}
HEAD = 1024  # how far into a text its first element is looked for


def sniff(data: bytes) -> str | None:
    """Which of `IMAGES` the first bytes announce, or None."""
    kind = announced(data)
    return kind if kind in IMAGES else None


def announced(data: bytes) -> str | None:
    """Which of `IMAGES` or `DOCUMENTS` the first bytes announce, or None."""
    for start, kind in STARTS.items():
        if data.startswith(start):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[4:8] == b"ftyp":
        return _of_brands(data)
    return _of_markup(data[:HEAD])


def _of_brands(data: bytes) -> str | None:
    size = min(int.from_bytes(data[:4], "big"), HEAD)
    brands = [data[8:12], *(data[place : place + 4] for place in range(16, size, 4))]
    kinds = [kind for brand in brands for start, kind in BRANDS.items() if brand.startswith(start)]
    # `mif1` says only that it is some HEIF: AVIF files have it, too
    return "avif" if "avif" in kinds else kinds[0] if kinds else None


def _of_markup(head: bytes) -> str | None:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not text.startswith(b"<"):
        return None
    places = {
        kind: text.find(tag) for kind, tag in (("svg", b"<svg"), ("html", b"<html"), ("doctype", b"<!doctype html"))
    }
    found = {kind: place for kind, place in places.items() if place >= 0}
    first = min(found, key=found.__getitem__, default=None)
    return "html" if first == "doctype" else first
