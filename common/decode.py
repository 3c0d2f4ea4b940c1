"""Decodes untrusted images safely, once, and gives views of them at the sizes that filters ask for.

Every image is hostile: `decode` raises only `Undecodable`, whose `reason` becomes the image's status, and checks the
header before it allocates a pixel. The decode scale is chosen from the header and the recipe alone, since a score must
depend only on the bytes and the filter's fingerprint, never on which other filters run. All coordinates that leave this
module are in the upright frame (EXIF orientation applied).
"""

from __future__ import annotations

import io
import warnings
from functools import lru_cache
from typing import Literal

import cv2
import numpy as np
from PIL import Image as PILImage
from PIL import ImageOps
from pydantic import BaseModel, ConfigDict, Field

# Pillow's own bomb limit warns at one size and raises at twice that; ours acts first, on the header.
PILImage.MAX_IMAGE_PIXELS = None
PILImage.init()  # all plug-ins, since `open(formats=...)` knows only what is registered

DECODED_FORMATS = {"JPEG": "jpeg", "MPO": "jpeg", "PNG": "png", "WEBP": "webp"}
KNOWN_FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "ICO", "AVIF"]  # MPO is opened as JPEG
EXIF_ORIENTATION = 0x0112
DECODE_VERSION = 1

Reason = Literal[
    "empty", "not_an_image", "unsupported_format", "animated", "too_many_pixels", "too_small", "truncated", "corrupt"
]


class ImageLimits(BaseModel):
    """Limits on the images that are decoded, and the scale of decoding. Part of every fingerprint."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_side: int = Field(32, ge=1, description="shorter side, pixels; smaller images are `too_small`")
    max_pixels: int = Field(80_000_000, ge=1, description="width x height in the header; more is `too_many_pixels`")
    working_side: int = Field(
        960, ge=64, description="JPEGs are decoded at the smallest scale 1/8..1/1 whose longer side reaches this"
    )


class Undecodable(Exception):
    """An image that cannot or must not be decoded; `reason` says why."""

    def __init__(self, reason: Reason, detail: str = ""):
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


class Picture:
    """A decoded image. `width`, `height`: the full upright size; `rgb`: uint8 (h, w, 3) at the decoded scale."""

    def __init__(self, rgb: np.ndarray, width: int, height: int, orientation: int, source_format: str):
        self.rgb = rgb
        self.width, self.height = width, height
        self.orientation = orientation
        self.source_format = source_format
        self._views: dict[int, np.ndarray] = {}

    @property
    def scale(self) -> tuple[float, float]:
        """Decoded pixels per full-size pixel, in x and y."""
        return self.rgb.shape[1] / self.width, self.rgb.shape[0] / self.height

    def view(self, long_side: int) -> np.ndarray:
        """uint8 RGB (h, w, 3) whose longer side is at most `long_side`; never enlarged. Shared: do not write to it."""
        if long_side not in self._views:
            height, width = self.rgb.shape[:2]
            ratio = long_side / max(height, width)
            if ratio >= 1:
                self._views[long_side] = self.rgb
            else:
                size = max(1, round(width * ratio)), max(1, round(height * ratio))
                self._views[long_side] = cv2.resize(self.rgb, size, interpolation=cv2.INTER_AREA)
        return self._views[long_side]

    def phash(self) -> str:
        """64-bit perceptual hash as 16 hex digits (DCT of a 32 x 32 grey view, OpenCV's)."""
        return _phasher().compute(cv2.cvtColor(self.view(256), cv2.COLOR_RGB2BGR)).tobytes().hex()


@lru_cache(maxsize=1)
def _phasher() -> cv2.img_hash.PHash:
    return cv2.img_hash.PHash.create()


def sniff(data: bytes) -> str | None:
    """The format that the first bytes announce ("jpeg", "png", "webp", "gif", "bmp", "tiff", "avif"), or None."""
    if data[:3] == b"\xff\xd8\xff":
        return "jpeg"
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return "png"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return "gif"
    if data[:2] == b"BM":
        return "bmp"
    if data[:4] in (b"II*\0", b"MM\0*"):
        return "tiff"
    if data[4:12] in (b"ftypavif", b"ftypavis", b"ftypheic", b"ftypmif1"):
        return "avif"
    return None


def decode(data: bytes, limits: ImageLimits = ImageLimits(), full_size: bool = False) -> Picture:
    """Decode image bytes to upright RGB. With `full_size` a JPEG is not scaled down while decoding.

    Raises:
        Undecodable: with the reason; never anything else, whatever the bytes are.
    """
    if not data:
        raise Undecodable("empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's about odd EXIF and palettes; a user can do nothing about them
            return _decode(data, limits, full_size)
    except Undecodable:
        raise
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        reason = "truncated" if "truncated" in str(error).lower() else "corrupt"
        raise Undecodable(reason, str(error)) from error
    except Exception as error:  # a parser that fails on its input: the image's fault, recorded in its row
        raise Undecodable("corrupt", f"{type(error).__name__}: {error}") from error


def _decode(data: bytes, limits: ImageLimits, full_size: bool) -> Picture:
    try:
        image = PILImage.open(io.BytesIO(data), formats=KNOWN_FORMATS)
    except PILImage.UnidentifiedImageError as error:
        format_name = sniff(data)
        if format_name in DECODED_FORMATS.values():
            raise Undecodable("truncated" if len(data) < 1024 else "corrupt", str(error)) from error
        raise Undecodable("unsupported_format" if format_name else "not_an_image") from error
    if image.format not in DECODED_FORMATS:
        raise Undecodable("unsupported_format", str(image.format))
    width, height = image.size
    if width * height > limits.max_pixels:
        raise Undecodable("too_many_pixels", f"{width} x {height}")
    if min(width, height) < limits.min_side:
        raise Undecodable("too_small", f"{width} x {height}")
    # an MPO is a JPEG followed by others (phones): its first picture is the picture
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        raise Undecodable("animated", f"{image.n_frames} frames")
    if image.format in ("JPEG", "MPO") and not full_size:
        image.draft(None, _draft_size(width, height, limits.working_side))
    image.load()
    orientation = int(image.getexif().get(EXIF_ORIENTATION, 1) or 1)
    orientation = orientation if 1 <= orientation <= 8 else 1
    source_format = DECODED_FORMATS[image.format]
    rgb = np.asarray(_to_rgb(ImageOps.exif_transpose(image)))
    if orientation >= 5:
        width, height = height, width
    return Picture(rgb, width, height, orientation, source_format)


def _draft_size(width: int, height: int, working_side: int) -> tuple[int, int]:
    factor = next((f for f in (8, 4, 2) if max(width, height) / f >= working_side), 1)
    return width // factor, height // factor


def _to_rgb(image: PILImage.Image) -> PILImage.Image:
    """RGB, whatever came in: transparency over white, 16 bits to the upper 8, CMYK through Pillow."""
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        values = np.asarray(image, dtype=np.float64)
        return PILImage.fromarray(np.clip(values / 257.0, 0, 255).round().astype(np.uint8), "L").convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = PILImage.new("RGBA", rgba.size, (255, 255, 255, 255))
        return PILImage.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def as_jpeg(data: bytes, source_format: str, quality: int, limits: ImageLimits = ImageLimits()) -> bytes:
    """The bytes that go into a shard: a JPEG as it came, PNG and WebP transcoded once (4:4:4, no metadata).

    The pixels that are encoded are upright, hence without an orientation tag.
    """
    if source_format == "jpeg":
        return data
    picture = decode(data, limits, full_size=True)
    out = io.BytesIO()
    PILImage.fromarray(picture.rgb).save(out, "JPEG", quality=quality, subsampling=0, optimize=False)
    return out.getvalue()


def upright_box(
    box: tuple[float, float, float, float], orientation: int, width: int, height: int
) -> tuple[float, float, float, float]:
    """A box of the stored (unrotated) frame in the upright frame; `width`, `height`: the upright size."""
    x1, y1, x2, y2 = box
    if orientation >= 5:  # the stored frame is the upright one with its sides exchanged
        stored_width, stored_height = height, width
    else:
        stored_width, stored_height = width, height
    corners = {
        1: lambda x, y: (x, y),
        2: lambda x, y: (stored_width - x, y),
        3: lambda x, y: (stored_width - x, stored_height - y),
        4: lambda x, y: (x, stored_height - y),
        5: lambda x, y: (y, x),
        6: lambda x, y: (stored_height - y, x),
        7: lambda x, y: (stored_height - y, stored_width - x),
        8: lambda x, y: (y, stored_width - x),
    }[orientation]
    (ax, ay), (bx, by) = corners(x1, y1), corners(x2, y2)
    return min(ax, bx), min(ay, by), max(ax, bx), max(ay, by)
