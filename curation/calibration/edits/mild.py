"""Edits that a good photo survives: sizes, light, weak colour, thin borders, a little writing."""

from __future__ import annotations

import io

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from curation.calibration.edits.base import Draw, Others, Portrait, around, edit, floats, font, luminance, picture


@edit("mild")
def mirrored(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    return ImageOps.mirror(portrait.image)


@edit("mild")
def head_and_shoulders(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    image = portrait.image
    return image.crop(around(portrait.face, image.size, *draw.uniform((0.4, 0.3, 0.3), (0.9, 0.7, 0.9))))


@edit("mild")
def brighter(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    return ImageEnhance.Brightness(portrait.image).enhance(draw.uniform(1.2, 1.5))


@edit("mild")
def darker(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    return ImageEnhance.Brightness(portrait.image).enhance(draw.uniform(0.5, 0.75))


@edit("mild")
def more_contrast(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    return ImageEnhance.Contrast(portrait.image).enhance(draw.uniform(1.2, 1.6))


@edit("mild")
def warm(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    return picture(floats(portrait.image) * (1 + draw.uniform(0.06, 0.14), 1.0, 1 - draw.uniform(0.1, 0.25)))


@edit("mild")
def cool(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    return picture(floats(portrait.image) * (1 - draw.uniform(0.08, 0.18), 1.0, 1 + draw.uniform(0.06, 0.16)))


@edit("mild")
def pale(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """Desaturated, but a colour photo to every eye."""
    return ImageEnhance.Color(portrait.image).enhance(draw.uniform(0.4, 0.6))


@edit("mild")
def vivid(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    return ImageEnhance.Color(portrait.image).enhance(draw.uniform(1.3, 1.6))


@edit("mild")
def filtered(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """As a phone's filters do it: lifted shadows, a colour in them, colours left alone."""
    values = floats(portrait.image)
    shade = (1 - luminance(values))[..., None] ** 2
    return picture(values * 0.9 + shade * draw.uniform(0.0, 0.12, 3).astype(np.float32))


@edit("mild")
def small(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    image = portrait.image.copy()
    image.thumbnail((220, 220))
    return image


@edit("mild")
def blocky(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    held = io.BytesIO()
    portrait.image.save(held, "JPEG", quality=int(draw.integers(25, 45)))
    return Image.open(held).convert("RGB")


@edit("mild")
def soft(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    return portrait.image.filter(ImageFilter.GaussianBlur(0.004 * (portrait.face[2] - portrait.face[0]) + 0.6))


@edit("mild")
def sharpened(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    return portrait.image.filter(ImageFilter.UnsharpMask(2, 120, 2))


@edit("mild")
def grainy(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    values = floats(portrait.image)
    return picture(values + draw.normal(0, 0.03, values.shape[:2])[..., None].astype(np.float32))


@edit("mild")
def smooth_skin(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """As a beauty filter does it, weakly."""
    values = np.asarray(portrait.image)
    smooth = cv2.bilateralFilter(values, 9, 25, 7)
    return Image.fromarray(cv2.addWeighted(smooth, 0.8, values, 0.2, 0))


@edit("mild")
def vignette(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    values = floats(portrait.image)
    y, x = np.mgrid[-1 : 1 : values.shape[0] * 1j, -1 : 1 : values.shape[1] * 1j]
    return picture(values * np.clip(1.15 - 0.4 * (x * x + y * y), 0.25, 1)[..., None].astype(np.float32))


@edit("mild")
def tilted(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    image = portrait.image.rotate(float(draw.choice((-6, -4, 4, 6))), Image.Resampling.BICUBIC)
    inset = round(0.06 * max(image.size))
    return image.crop((inset, inset, image.width - inset, image.height - inset))


@edit("mild")
def thin_border(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    colour = ((255, 255, 255), (0, 0, 0), (200, 190, 170))[int(draw.integers(3))]
    return ImageOps.expand(portrait.image, round(0.03 * max(portrait.image.size)), colour)


@edit("mild")
def instant_print(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """The white frame of an instant camera's print."""
    image, edge = portrait.image, round(0.06 * portrait.image.width)
    frame = Image.new("RGB", (image.width + 2 * edge, image.height + 5 * edge), (246, 244, 238))
    frame.paste(image, (edge, edge))
    return frame


@edit("mild")
def bars(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """Black bars, above and below or at the sides."""
    image, wide = portrait.image, round(0.12 * max(portrait.image.size))
    across = bool(draw.integers(2))
    return ImageOps.expand(image, (0, wide) if across else (wide, 0), (0, 0, 0))


@edit("mild")
def corner_logo(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    image = portrait.image.copy()
    size = 0.028 * image.height + 4
    at = (image.width * draw.choice((0.03, 0.78)), image.height * draw.choice((0.03, 0.93)))
    ImageDraw.Draw(image, "RGBA").text(at, "PHOTO-4U", font=font(size), fill=(255, 255, 255, 190))
    return image


@edit("mild")
def date_stamp(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    image = portrait.image.copy()
    when = f"{int(draw.integers(1, 28)):02d} {int(draw.integers(1, 12)):02d} '0{int(draw.integers(1, 9))}"
    ImageDraw.Draw(image).text((image.width * 0.78, image.height * 0.92), when, font=font(0.04 * image.height),
                               fill=(255, 140, 40))  # fmt: skip
    return image


@edit("mild")
def credit_line(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    image = portrait.image.copy()
    line = f"(c) Studio {'ABCDEFG'[int(draw.integers(7))]}. All rights reserved"
    ImageDraw.Draw(image, "RGBA").text((image.width * 0.03, image.height * 0.955), line, font=font(0.025 * image.height),
                                       fill=(255, 255, 255, 200))  # fmt: skip
    return image
