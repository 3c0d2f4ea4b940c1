"""Pictures derived from a few portraits, each with a known label: one broken file of each kind, and sound oddities.

The bytes depend on the versions of Pillow and OpenCV, which the lock pins; nothing here is random.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from common.decode import upright_box
from curation.sample.boxes import Box, stored_boxes
from curation.sample.photos import Photo

LONG_SIDE = 640
BASES = {
    "astronaut": "skimage/data/astronaut.png",
    "guido": "thumbor/fixtures/filters/800px-Guido-portrait-2014.jpg",
    "christophe": "thumbor/fixtures/filters/800px-Christophe_Henner_-_June_2016.jpg",
    "katherine": "thumbor/fixtures/filters/800px-Katherine_Maher.jpg",
    "filippo": "thumbor/fixtures/filters/Giunchedi%2C_Filippo_January_2015_01.jpg",
    "president": "tests/test_images/obama.jpg",
}
Verdict = Literal["kept", "grayscale", "text", "faces", ""]


@dataclass(frozen=True)
class DerivedPicture:
    """`boxes`: the faces in the stored frame; `decodes`: "ok" or the reason; `verdict`: what a person would say."""

    name: str
    data: bytes
    kind: str
    base: str
    boxes: tuple[Box, ...]
    size: tuple[int, int]
    decodes: str = "ok"
    verdict: Verdict = "kept"
    content_type: str = "image/jpeg"


@dataclass(frozen=True)
class Portrait:
    image: Image.Image
    boxes: tuple[Box, ...]
    sha256: str


def portraits(photos: list[Photo]) -> dict[str, Portrait]:
    """The bases by name, RGB, at most 640 px, with their boxes.

    Raises:
        KeyError: a base is not among `photos`.
    """
    by_file = {photo.file: photo for photo in photos}
    found = {}
    for name, file in BASES.items():
        photo = by_file[file]
        with Image.open(photo.path) as opened:
            image = opened.convert("RGB")
        ratio = min(1.0, LONG_SIDE / max(image.size))
        image = image.resize((round(image.width * ratio), round(image.height * ratio)), Image.Resampling.LANCZOS)
        best = max(stored_boxes()[photo.sha256], key=lambda item: (item[1], item[0]))[0]
        found[name] = Portrait(image, (tuple(round(value * ratio) for value in best),), photo.sha256)
    return found


# -- encoders ----------------------------------------------------------------------------------------------------


def _save(image: Image.Image, form: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def _jpeg(image: Image.Image, **options: object) -> bytes:
    return _save(image, "JPEG", **{"quality": 90, **options})


def _palette_with_alpha(image: Image.Image) -> bytes:
    indexed = image.quantize(255, dither=Image.Dither.NONE)
    values = np.array(indexed)
    values[: image.height // 8, : image.width // 8] = 255  # the see-through corner
    with_alpha = Image.fromarray(values, "P")
    with_alpha.putpalette((indexed.getpalette() or [])[:765] + [0, 0, 0])
    return _save(with_alpha, "PNG", transparency=bytes([255] * 255 + [0]))


def _round_alpha(image: Image.Image) -> bytes:
    mask = Image.new("L", image.size, 0)
    ImageDraw.Draw(mask).ellipse((0, 0, image.width - 1, image.height - 1), fill=255)
    cut = image.convert("RGBA")
    cut.putalpha(mask)
    return _save(cut, "PNG")


def _png16(image: Image.Image, grey: bool) -> bytes:
    values = np.asarray(image.convert("L") if grey else image, dtype=np.uint16) * 257
    sound, data = cv2.imencode(".png", values if grey else np.ascontiguousarray(values[..., ::-1]))
    assert sound
    return data.tobytes()


def _animated(image: Image.Image, form: str) -> bytes:
    frames = [image.resize((image.width // 2, image.height // 2)) for _ in range(3)]
    frames[1] = frames[1].rotate(4)
    frames[2] = frames[2].rotate(-4)
    return _save(frames[0], form, save_all=True, append_images=frames[1:], duration=120, loop=0)


def _turned(image: Image.Image, orientation: int) -> bytes:
    """Stored turned, so that the EXIF orientation makes it upright again."""
    turn = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    return _jpeg(image.transpose(turn), exif=exif)


def turned_box(box: Box, orientation: int, width: int, height: int) -> Box:
    """A box of the upright frame (`width` x `height`) in the stored frame of `_turned`."""
    back, stored_size = {3: (3, (width, height)), 6: (8, (height, width)), 8: (6, (height, width))}[orientation]
    return upright_box(box, back, *stored_size)


def _bomb() -> bytes:
    """A PNG whose header promises 40000 x 40000 pixels in 200 bytes."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(100_000), 9))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def _damaged_png(image: Image.Image) -> bytes:
    data = bytearray(_save(image, "PNG"))
    middle = len(data) // 2
    data[middle : middle + 64] = bytes(value ^ 0x5A for value in data[middle : middle + 64])
    return bytes(data)


def _with_text(image: Image.Image, lines: list[str], x: float, y: float, size: float) -> bytes:
    """Words beside the face, each line on a plate. `x`, `y`: where they start; `size`: of a letter; as shares of
    the picture's width and height."""
    written = image.copy()
    draw = ImageDraw.Draw(written)
    points = max(14, round(image.height * size))
    font = ImageFont.load_default(points)
    for number, line in enumerate(lines):
        place = (round(image.width * x), round(image.height * y + number * points * 1.25))
        draw.rectangle(draw.textbbox(place, line, font=font), fill=(255, 255, 255))
        draw.text(place, line, font=font, fill=(10, 10, 10))
    return _jpeg(written)


def _side_by_side(left: Portrait, right: Portrait) -> tuple[Image.Image, tuple[Box, ...]]:
    pair = Image.new("RGB", (left.image.width + right.image.width, max(left.image.height, right.image.height)))
    pair.paste(left.image, (0, 0))
    pair.paste(right.image, (left.image.width, 0))
    moved = tuple((x1 + left.image.width, y1, x2 + left.image.width, y2) for x1, y1, x2, y2 in right.boxes)
    return pair, (*left.boxes, *moved)


HTML = b"<!DOCTYPE html>\n<html><title>Not found</title><body><h1>This picture has moved</h1></body></html>\n"
ADVERT = ["SALE 50% OFF", "ONLY TODAY", "EVERYTHING", "MUST GO NOW", "CALL 555-0199", "FREE DELIVERY"]
ARTICLE = [
    "Ten things that",
    "nobody tells you",
    "about portraits:",
    "light, patience,",
    "the right moment",
    "and a smile.",
]
TEXTS: tuple[tuple[str, list[str], float, float, float], ...] = (
    ("guido", ADVERT, 0.63, 0.05, 0.068),
    ("christophe", ARTICLE, 0.6, 0.08, 0.07),
    ("filippo", ADVERT, 0.64, 0.04, 0.066),
    ("astronaut", ARTICLE, 0.08, 0.42, 0.07),
)


def derived_pictures(photos: list[Photo]) -> list[DerivedPicture]:
    """All derived pictures, in a fixed order."""
    base = portraits(photos)
    files: list[DerivedPicture] = []

    def add(name: str, kind: str, source: str, encode: Callable[[Image.Image], bytes], **more: object) -> None:
        portrait = base[source]
        entry = {"boxes": portrait.boxes, "size": portrait.image.size, **more}
        files.append(DerivedPicture(name, encode(portrait.image), kind, portrait.sha256, **entry))  # type: ignore[arg-type]

    png, webp, broken = {"content_type": "image/png"}, {"content_type": "image/webp"}, {"verdict": ""}
    # sound, whatever they look like from outside
    add("progressive.jpg", "progressive_jpeg", "guido", lambda image: _jpeg(image, progressive=True))
    add("cmyk.jpg", "cmyk_jpeg", "christophe", lambda image: _jpeg(image.convert("CMYK")))
    add("palette-alpha.png", "palette_alpha_png", "filippo", _palette_with_alpha, **png)
    add("round-alpha.png", "rgba_png", "katherine", _round_alpha, **png)
    add("rgb16.png", "rgb16_png", "astronaut", lambda image: _png16(image, grey=False), **png)
    add("grey16.png", "grey16_png", "astronaut", lambda image: _png16(image, grey=True), **png, verdict="grayscale")
    add("portrait.png", "png", "christophe", lambda image: _save(image, "PNG"), **png)
    add("portrait.webp", "webp", "filippo", lambda image: _save(image, "WEBP", quality=90), **webp)
    add("jpeg-named.png", "jpeg_named_png", "president", _jpeg, **png)
    for orientation, source in ((3, "guido"), (6, "christophe"), (8, "president")):
        image, boxes = base[source].image, base[source].boxes
        turned_boxes = tuple(turned_box(box, orientation, *image.size) for box in boxes)
        size = image.size if orientation == 3 else image.size[::-1]
        kind, name = f"exif_orientation_{orientation}", f"exif-{orientation}.jpg"
        add(name, kind, source, lambda image, turn=orientation: _turned(image, turn), boxes=turned_boxes, size=size)
    # to be rejected, by one filter each
    for name, source in (("grey-1.jpg", "guido"), ("grey-2.jpg", "katherine")):
        add(name, "grey_jpeg", source, lambda image: _jpeg(image.convert("L")), verdict="grayscale")
    for name, source in (("grey-3.jpg", "filippo"), ("grey-4.jpg", "president")):
        add(name, "grey_in_rgb", source, lambda image: _jpeg(image.convert("L").convert("RGB")), verdict="grayscale")
    for number, (source, *how) in enumerate(TEXTS):
        add(f"text-{number + 1}.jpg", "text_overlay", source, lambda i, how=how: _with_text(i, *how), verdict="text")
    pair, boxes = _side_by_side(base["guido"], base["christophe"])
    add("pair.jpg", "two_faces", "guido", lambda _: _jpeg(pair), boxes=boxes, size=pair.size, verdict="faces")
    # broken, or not a picture
    add("truncated.jpg", "truncated_jpeg", "guido", lambda i: _jpeg(i)[:-9000], decodes="truncated", **broken)
    add("header-only.jpg", "header_only_jpeg", "filippo", lambda i: _jpeg(i)[:300], decodes="truncated", **broken)
    add("damaged.png", "damaged_png", "filippo", _damaged_png, decodes="corrupt", **png, **broken)
    gif = {"content_type": "image/gif", "decodes": "gif"}
    add("animated.gif", "animated_gif", "guido", lambda i: _animated(i, "GIF"), **gif, **broken)
    add("animated.webp", "animated_webp", "guido", lambda i: _animated(i, "WEBP"), decodes="animated", **webp, **broken)
    bmp = {"content_type": "image/bmp", "decodes": "bmp"}
    add("picture.bmp", "bmp", "president", lambda i: _save(i.resize((200, 150)), "BMP"), **bmp, **broken)
    add("one-pixel.jpg", "one_pixel", "guido", lambda i: _jpeg(i.resize((1, 1))), decodes="too_small", **broken)
    add("stamp.jpg", "31_pixels", "guido", lambda i: _jpeg(i.resize((48, 31))), decodes="too_small", **broken)
    bomb = {"content_type": "image/png", "decodes": "too_many_pixels", "size": (40_000, 40_000)}
    add("bomb.png", "decompression_bomb", "guido", lambda _: _bomb(), **bomb, **broken)
    add("page.jpg", "html_named_jpg", "guido", lambda _: HTML, decodes="html", **broken)
    add("empty.jpg", "empty_file", "guido", lambda _: b"", decodes="empty", **broken)
    return files
