"""Grey and toned versions: black-and-white, sepia, cyanotype, split tones, tints, casts, hand-coloured."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image, ImageOps

from curation.calibration.edits.base import (
    Draw,
    Others,
    Portrait,
    around,
    cover,
    edit,
    floats,
    luminance,
    pick,
    picture,
)


def _toned(image: Image.Image, dark: tuple, light: tuple, middle: tuple | None = None) -> Image.Image:
    """Each lightness gets one colour: from `dark` over `middle` to `light`, each 0 to 255."""
    grey = luminance(floats(image))
    stops = [dark, light] if middle is None else [dark, middle, light]
    at = np.linspace(0, 1, len(stops))
    return picture(np.stack([np.interp(grey, at, [stop[c] / 255 for stop in stops]) for c in range(3)], axis=2))


@edit("toned")
def grey(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    return portrait.image.convert("L").convert("RGB")


@edit("toned")
def sepia(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    return _toned(portrait.image, (20, 10, 0), (255, 240, 205), (150, 115, 75))


@edit("toned")
def weak_sepia(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    return _toned(portrait.image, (8, 6, 4), (255, 251, 242), (136, 127, 116))


@edit("toned")
def cyanotype(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    return _toned(portrait.image, (5, 20, 60), (235, 245, 250), (60, 120, 170))


@edit("toned")
def split_tone(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    return _toned(portrait.image, (10, 25, 55), (255, 235, 195), (130, 125, 125))


@edit("toned")
def two_inks(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """A duotone in strong colours, as posters have it."""
    inks = (((40, 10, 90), (255, 200, 60)), ((10, 60, 50), (255, 170, 170)), ((120, 0, 30), (240, 240, 255)))
    return _toned(portrait.image, *inks[int(draw.integers(len(inks)))])


@edit("toned")
def tinted(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """Grey with a weak tint of any hue."""
    tint = 1 + 0.12 * (draw.uniform(-1, 1, 3))
    return picture(luminance(floats(portrait.image))[..., None] * tint)


@edit("toned")
def noisy_grey(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """Grey with heavy noise of colour, as from a scanner or a camera at night."""
    values = luminance(floats(portrait.image))[..., None]
    return picture(values + draw.normal(0, 0.07, (*values.shape[:2], 3)).astype(np.float32))


@edit("toned")
def aged_print(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """Grey on yellowed paper, with stains and a border of the paper."""
    image = _toned(portrait.image, (45, 35, 28), (238, 224, 190))
    stains = cv2.GaussianBlur(draw.normal(0, 1, (image.height, image.width)).astype(np.float32), (0, 0), 25)
    aged = picture(floats(image) + (stains / np.abs(stains).max())[..., None] * np.array([0.03, 0.05, 0.08]))
    return ImageOps.expand(aged, round(0.05 * image.width), (236, 226, 200))


@edit("toned")
def red_light(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """All that is left of the colours is one channel's light."""
    light = ((1.0, 0.12, 0.1), (0.1, 0.25, 1.0), (0.15, 0.95, 0.25))[int(draw.integers(3))]
    return picture(luminance(floats(portrait.image))[..., None] * light)


@edit("toned")
def strong_cast(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """A colour photo under a strong cast; its colours can still be told apart."""
    cast = ((1.15, 0.9, 0.5), (0.6, 0.9, 1.2), (0.8, 1.15, 0.7))[int(draw.integers(3))]
    return picture(floats(portrait.image) * cast)


@edit("toned")
def faded(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """A colour print of which little colour is left."""
    values = floats(portrait.image)
    pale = luminance(values)[..., None] + 0.2 * (values - luminance(values)[..., None])
    return picture(pale * (0.85, 0.78, 0.7) + (0.12, 0.1, 0.08))


@edit("toned")
def grey_with_a_colour(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """Black-and-white but for one hue, as in adverts; the face is grey."""
    hsv = cv2.cvtColor(np.asarray(portrait.image), cv2.COLOR_RGB2HSV).astype(int)
    x1, y1, x2, y2 = around(portrait.face, portrait.image.size, 0.15, 0.2, 0.15)
    hue = int(draw.integers(0, 180))
    keep = (np.abs((hsv[..., 0] - hue + 90) % 180 - 90) < 18) & (hsv[..., 1] > 60)
    keep[y1:y2, x1:x2] = False
    values = floats(portrait.image)
    return picture(np.where(keep[..., None], values, luminance(values)[..., None]))


@edit("toned")
def hand_coloured(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """A grey photo whose face and clothes someone painted over in flat colours."""
    values = luminance(floats(portrait.image))[..., None].repeat(3, axis=2)
    x1, y1, x2, y2 = portrait.face
    paint = np.zeros(values.shape[:2], np.float32)
    cv2.ellipse(paint, ((x1 + x2) // 2, (y1 + y2) // 2), ((x2 - x1) // 2, (y2 - y1) * 6 // 10), 0, 0, 360, 1.0, -1)
    paint = cv2.GaussianBlur(paint, (0, 0), 4)[..., None]
    return picture(values * (1 - paint + paint * np.array([1.25, 0.87, 0.72])))


@edit("toned")
def grey_on_colour(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """A grey photo before a colourful surface: much colour in the picture, none in the face."""
    image = portrait.image.convert("L").convert("RGB")
    if draw.integers(2):
        return ImageOps.expand(image, round(0.12 * max(image.size)), tuple(int(c) for c in draw.integers(20, 235, 3)))
    scene = cover(pick(draw, others.scenes), (round(image.width * 1.5), round(image.height * 1.4)))
    scene.paste(image, ((scene.width - image.width) // 2, (scene.height - image.height) // 2))
    return scene


@edit("toned")
def sepia_border(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """Sepia in a frame of another colour."""
    return ImageOps.expand(sepia(portrait, draw, others), round(0.1 * portrait.image.width), (30, 90, 60))
