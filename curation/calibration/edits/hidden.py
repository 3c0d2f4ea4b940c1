"""Faces that are covered, cut, turned, or too poor to learn from."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from curation.calibration.edits.base import Draw, Others, Portrait, around, edit, floats, pick, picture


@edit("hidden")
def face_mask(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """A medical mask over mouth and nose."""
    image = portrait.image.copy()
    x1, y1, x2, y2 = portrait.face
    wide, tall = x2 - x1, y2 - y1
    cloth = ((150, 195, 215), (235, 238, 240), (40, 42, 46), (140, 190, 165))[int(draw.integers(4))]
    write = ImageDraw.Draw(image)
    top, bottom = y1 + 0.5 * tall, y1 + 1.03 * tall
    edge = [
        (0.03, 0.06),
        (0.3, 0),
        (0.5, -0.05),
        (0.7, 0),
        (0.97, 0.06),
        (0.93, 0.75),
        (0.7, 1),
        (0.3, 1),
        (0.07, 0.75),
    ]
    write.polygon([(x1 + u * wide, top + v * (bottom - top)) for u, v in edge], fill=cloth)
    for fold in (0.3, 0.5, 0.7):
        y = top + fold * (bottom - top)
        write.line((x1 + 0.08 * wide, y, x2 - 0.08 * wide, y), fill=tuple(c * 4 // 5 for c in cloth), width=2)
    return image


@edit("hidden")
def bar_over_the_eyes(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    image = portrait.image.copy()
    x1, y1, x2, y2 = portrait.face
    tall = y2 - y1
    ImageDraw.Draw(image).rectangle((x1 - 4, y1 + 0.27 * tall, x2 + 4, y1 + 0.5 * tall), fill=(0, 0, 0))
    return image


@edit("hidden")
def pixelated(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    image = portrait.image.copy()
    box = around(portrait.face, image.size, 0.1, 0.1, 0.1)
    face = image.crop(box)
    image.paste(face.resize((8, 9), Image.Resampling.BOX).resize(face.size, Image.Resampling.NEAREST), box[:2])
    return image


@edit("hidden")
def emoji_over_the_face(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    image = portrait.image.copy()
    x1, y1, x2, y2 = portrait.face
    centre, radius = np.array([(x1 + x2) / 2, (y1 + y2) / 2]), 0.62 * (y2 - y1)
    write = ImageDraw.Draw(image)
    write.ellipse((*(centre - radius), *(centre + radius)), fill=(255, 205, 50))
    for side in (-1, 1):
        eye = centre + np.array([side * 0.35, -0.25]) * radius
        write.ellipse((*(eye - 0.12 * radius), *(eye + 0.12 * radius)), fill=(90, 50, 0))
    write.arc(
        (*(centre - 0.6 * radius), *(centre + 0.6 * radius)), 20, 160, fill=(90, 50, 0), width=max(2, int(radius / 12))
    )
    return image


@edit("hidden")
def sunglasses(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    image = portrait.image.copy()
    x1, y1, x2, y2 = portrait.face
    write, wide, tall = ImageDraw.Draw(image), x2 - x1, y2 - y1
    for left in (0.08, 0.53):
        write.ellipse(
            (x1 + left * wide, y1 + 0.28 * tall, x1 + (left + 0.39) * wide, y1 + 0.5 * tall), fill=(15, 15, 18)
        )
    write.line((x1, y1 + 0.35 * tall, x2, y1 + 0.35 * tall), fill=(15, 15, 18), width=max(2, wide // 40))
    return image


@edit("hidden")
def half_behind_a_thing(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """Half of the face behind a piece of another picture."""
    image = portrait.image.copy()
    x1, y1, x2, y2 = around(portrait.face, image.size, 0.15, 0.3, 0.2)
    half = (x1, y1, (x1 + x2) // 2, y2) if draw.integers(2) else ((x1 + x2) // 2, y1, x2, y2)
    image.paste(pick(draw, others.scenes).resize((half[2] - half[0], half[3] - half[1])), half[:2])
    return image


@edit("hidden")
def half_a_face(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """Cut through the middle of the face by the picture's edge."""
    image, (x1, _, x2, _) = portrait.image, portrait.face
    middle = (x1 + x2) // 2
    if draw.integers(2):
        return image.crop((middle, 0, image.width, image.height))
    return image.crop((0, 0, middle, image.height))


@edit("hidden")
def mouth_and_chin(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """The edge cuts the face below the eyes."""
    image, (_, y1, _, y2) = portrait.image, portrait.face
    return image.crop((0, round(y1 + 0.55 * (y2 - y1)), image.width, image.height))


@edit("hidden")
def eyes_only(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    x1, y1, x2, y2 = portrait.face
    return portrait.image.crop((x1, round(y1 + 0.2 * (y2 - y1)), x2, round(y1 + 0.58 * (y2 - y1))))


@edit("hidden")
def upside_down(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    return portrait.image.rotate(180)


@edit("hidden")
def on_its_side(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    return portrait.image.transpose(Image.Transpose.ROTATE_90)


@edit("hidden")
def tiny(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """So small that the face is a dozen pixels wide, and enlarged again."""
    image = portrait.image
    ratio = 12 / (portrait.face[2] - portrait.face[0])
    size = max(8, round(image.width * ratio)), max(8, round(image.height * ratio))
    return image.resize(size, Image.Resampling.BOX).resize(image.size, Image.Resampling.BICUBIC)


@edit("hidden")
def very_blurred(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    return portrait.image.filter(ImageFilter.GaussianBlur(0.09 * (portrait.face[2] - portrait.face[0])))


@edit("hidden")
def shaken(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """Moved while it was exposed."""
    length = max(5, round(0.25 * (portrait.face[2] - portrait.face[0])))
    kernel = np.zeros((length, length), np.float32)
    cv2.line(kernel, (0, int(draw.integers(length))), (length - 1, length // 2), 1.0, 1)
    return Image.fromarray(cv2.filter2D(np.asarray(portrait.image), -1, kernel / kernel.sum()))


@edit("hidden")
def nearly_black(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    return picture(floats(portrait.image) * 0.06)


@edit("hidden")
def washed_out(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """Exposed until the face is white."""
    return picture(floats(portrait.image) * 3.5 + 0.25)
