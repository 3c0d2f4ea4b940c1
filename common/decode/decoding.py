"""Decodes untrusted images safely, once: upright RGB, or a reason.

Every image is hostile: the header is compared with the limits before a pixel is allocated, and decoders see no metadata.
The decode scale is chosen from the header and the recipe alone, since a score must depend only on the bytes and the
filter's fingerprint, never on which other filters run. All coordinates that leave this package are in the upright frame
(EXIF orientation applied).
"""

from __future__ import annotations

import io
import re
import warnings

import numpy as np
from PIL import Image as PILImage
from PIL import JpegImagePlugin, PngImagePlugin, WebPImagePlugin  # noqa: F401  they register themselves

from common.decode.formats import DECODED, announced
from common.decode.header import Header, read_header
from common.decode.limits import ImageLimits, Undecodable
from common.decode.picture import MIRRORED, Picture

# Pillow's own bomb limit warns at one size and raises at twice that; ours acts first, on the header.
PILImage.MAX_IMAGE_PIXELS = None

DECODE_VERSION = 3
DEFAULT_LIMITS = ImageLimits()
STRIP = 1 << 20  # pixels that are converted at a time, so that no second picture stands beside the first
ADDRESS = re.compile(r"<[^<>]* at 0x[0-9a-fA-F]+>")


def decode(data: bytes, limits: ImageLimits = DEFAULT_LIMITS, full_size: bool = False) -> Picture:
    """Decode image bytes to upright RGB. With `full_size` a JPEG is not scaled down while decoding.

    Raises:
        Undecodable: with the reason; a function of the bytes and the limits.
        MemoryError: this machine has less than the limits allow for; no fault of the image.
    """
    if not data:
        raise Undecodable("empty")
    kind = announced(data)
    if kind not in DECODED:
        raise Undecodable(kind or "not_an_image")
    header = read_header(data, kind)
    _require_limits(header, limits)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's about odd palettes; a user can do nothing about them
            rgb = _pixels(header, kind, limits, full_size)
    except (Undecodable, MemoryError):
        raise
    except PILImage.UnidentifiedImageError as error:
        raise Undecodable("corrupt", f"no {kind} that the decoder knows") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        text = ADDRESS.sub("the file", str(error))
        raise Undecodable("truncated" if "truncated" in text.lower() else "corrupt", text) from error
    except Exception as error:  # a parser that fails on its input: the image's fault, recorded in its row
        raise Undecodable("corrupt", f"{type(error).__name__}: {ADDRESS.sub('the file', str(error))}") from error
    width, height = header.width, header.height
    if header.orientation >= 5:
        width, height = height, width
    return Picture(_upright(rgb, header.orientation), width, height, header.orientation, kind, header.notes)


def memory_of(data: bytes) -> int:
    """Bytes that decoding takes at most, by the header; 0 where there is nothing to decode."""
    kind = announced(data) if data else ""
    try:
        return read_header(data, kind).memory if kind in DECODED else 0
    except Undecodable:
        return 0


def _require_limits(header: Header, limits: ImageLimits) -> None:
    size = f"{header.width} x {header.height}"
    if header.width * header.height > limits.max_pixels:
        raise Undecodable("too_many_pixels", size)
    if min(header.width, header.height) < limits.min_side:
        raise Undecodable("too_small", size)
    if header.frames > 1:
        raise Undecodable("animated", f"{header.frames} frames")
    if header.scans > limits.max_scans:
        raise Undecodable("too_many_scans", f"{header.scans} scans")
    if header.memory > limits.max_memory:
        raise Undecodable("too_much_memory", f"{size}, {header.memory:,} bytes")


def _pixels(header: Header, kind: str, limits: ImageLimits, full_size: bool) -> np.ndarray:
    """uint8 RGB (h, w, 3) in the stored frame."""
    image = PILImage.open(io.BytesIO(header.pixels), formats=[kind.upper()])
    if image.size != (header.width, header.height):
        raise Undecodable("corrupt", f"two sizes: {header.width} x {header.height}, {image.width} x {image.height}")
    if kind == "jpeg" and not full_size:
        image.draft(None, _draft_size(header.width, header.height, limits.working_side))
    image.load()
    rgb = np.empty((image.height, image.width, 3), np.uint8)
    rows = max(1, STRIP // image.width)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        rgb[top : top + rows] = np.asarray(_to_rgb(strip))
    return rgb


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


def _upright(rgb: np.ndarray, orientation: int) -> np.ndarray:
    across, down = MIRRORED[orientation]
    mirrored = rgb[:: -1 if down else 1, :: -1 if across else 1]
    return np.ascontiguousarray(mirrored.transpose(1, 0, 2) if orientation >= 5 else mirrored)


def as_jpeg(data: bytes, source_format: str, quality: int, limits: ImageLimits = DEFAULT_LIMITS) -> bytes:
    """The bytes that go into a shard: a JPEG as it came, PNG and WebP transcoded once (4:4:4, no metadata).

    The pixels that are encoded are upright, hence without an orientation tag.
    """
    if source_format == "jpeg":
        return data
    picture = decode(data, limits, full_size=True)
    out = io.BytesIO()
    PILImage.fromarray(picture.rgb).save(out, "JPEG", quality=quality, subsampling=0, optimize=False)
    return out.getvalue()
