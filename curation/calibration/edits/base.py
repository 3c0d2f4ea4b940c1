"""What an edit gets and gives, and the list of all edits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFont

Box = tuple[int, int, int, int]  # x1, y1, x2, y2 in pixels
Size = tuple[int, int]


@dataclass(frozen=True)
class Portrait:
    """A photo that is edited: RGB, at most 640 pixels, with the box of its face. `motif`: as in the table of labels."""

    motif: str
    image: Image.Image
    face: Box


@dataclass(frozen=True)
class Others:
    """Photos of the same half that an edit may use beside its own: no motif gets into both halves."""

    portraits: tuple[Portrait, ...]
    scenes: tuple[Image.Image, ...]  # without people
    drawings: tuple[Image.Image, ...]


Draw = np.random.Generator
Edit = Callable[[Portrait, Draw, Others], Image.Image]
EDITS: dict[str, tuple[str, Edit]] = {}  # name -> group, edit


def edit(group: str) -> Callable[[Edit], Edit]:
    """Lists a function as an edit, under its own name with dashes."""

    def listed(function: Edit) -> Edit:
        name = function.__name__.replace("_", "-")
        assert name not in EDITS, name
        EDITS[name] = (group, function)
        return function

    return listed


def font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font, so that no machine's fonts matter."""
    return ImageFont.load_default(max(8, round(size)))


def pick(draw: Draw, items: tuple, leave: object = None):
    """One of the items; not the one to leave."""
    rest = [item for item in items if item is not leave]
    return rest[int(draw.integers(len(rest)))]


def around(face: Box, size: Size, wide: float, above: float, below: float) -> Box:
    """A box about a face, in shares of the face's width and height, within the picture."""
    x1, y1, x2, y2 = face
    width, height = x2 - x1, y2 - y1
    return (
        max(0, round(x1 - wide * width)),
        max(0, round(y1 - above * height)),
        min(size[0], round(x2 + wide * width)),
        min(size[1], round(y2 + below * height)),
    )


def cover(image: Image.Image, size: Size) -> Image.Image:
    """The picture's middle, filling that size."""
    ratio = max(size[0] / image.width, size[1] / image.height)
    image = image.resize((max(size[0], round(image.width * ratio)), max(size[1], round(image.height * ratio))))
    left, top = (image.width - size[0]) // 2, (image.height - size[1]) // 2
    return image.crop((left, top, left + size[0], top + size[1]))


def floats(image: Image.Image) -> np.ndarray:
    """float32 (h, w, 3), 0 to 1."""
    return np.asarray(image, np.float32) / 255


def picture(values: np.ndarray) -> Image.Image:
    """Of floats, clipped."""
    return Image.fromarray((np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8))


def luminance(values: np.ndarray) -> np.ndarray:
    """float32 (h, w)."""
    return values @ np.array([0.299, 0.587, 0.114], np.float32)
