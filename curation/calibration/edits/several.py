"""More than one photo: collages, second faces, posters, screens, drawings in real rooms."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageOps

from curation.calibration.edits.base import Draw, Others, Portrait, around, cover, edit, pick


def _head(portrait: Portrait, size: tuple[int, int]) -> Image.Image:
    return cover(portrait.image.crop(around(portrait.face, portrait.image.size, 0.7, 0.5, 0.8)), size)


def _hung(scene: Image.Image, image: Image.Image, centre: tuple[float, float], wide: float, draw: Draw) -> Image.Image:
    """The image in the scene like a poster seen from the side. `centre`, `wide`: as shares of the scene."""
    across = wide * scene.width
    half = np.array([across, across * image.height / image.width]) / 2
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half + np.array(centre) * scene.size
    corners += draw.uniform(-0.08, 0.08, (4, 2)) * across
    source = np.array([[0, 0], [image.width, 0], [image.width, image.height], [0, image.height]], np.float32)
    matrix = cv2.getPerspectiveTransform(source, corners.astype(np.float32))
    laid = cv2.warpPerspective(np.asarray(image), matrix, scene.size, flags=cv2.INTER_AREA)
    where = cv2.warpPerspective(np.full(image.size[::-1], 255, np.uint8), matrix, scene.size)
    scene = scene.copy()
    scene.paste(Image.fromarray(laid), mask=Image.fromarray(where))
    return scene


@edit("several")
def side_by_side(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    other = pick(draw, others.portraits, portrait)
    pair = Image.new("RGB", (640, 360))
    pair.paste(_head(portrait, (320, 360)))
    pair.paste(_head(other, (320, 360)), (320, 0))
    return pair


@edit("several")
def before_and_after(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    pair = Image.new("RGB", (610, 360), (255, 255, 255))
    head = _head(portrait, (300, 360))
    pair.paste(head)
    pair.paste(ImageOps.autocontrast(ImageOps.mirror(head)), (310, 0))
    return pair


@edit("several")
def four(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    heads = [portrait, *(others.portraits[int(i)] for i in draw.integers(len(others.portraits), size=3))]
    grid = Image.new("RGB", (512, 512))
    for number, head in enumerate(heads):
        grid.paste(_head(head, (250, 250)), (number % 2 * 262, number // 2 * 262))
    return grid


@edit("several")
def portrait_among_scenes(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """A collage with one face in it."""
    grid = Image.new("RGB", (520, 520), (255, 255, 255))
    at = int(draw.integers(4))
    for number in range(4):
        tile = _head(portrait, (255, 255)) if number == at else cover(pick(draw, others.scenes), (255, 255))
        grid.paste(tile, (number % 2 * 265, number // 2 * 265))
    return grid


@edit("several")
def picture_in_picture(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """A second head in a corner, as in a video call."""
    image = portrait.image.copy()
    side = round(0.3 * min(image.size))
    left = round(image.width * 0.02) if portrait.face[0] > image.width * 0.35 else image.width - round(side * 1.05)
    image.paste(_head(pick(draw, others.portraits, portrait), (side, side)), (left, image.height - round(side * 1.05)))
    return image


@edit("several")
def someone_behind(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """A small face in the background, beside a large one."""
    image = portrait.image.copy()
    x1, y1, x2, y2 = portrait.face
    wide = max(14, round(0.22 * (x2 - x1)))
    other = _head(pick(draw, others.portraits, portrait), (round(wide * 2.2), round(wide * 2.6)))
    left = 2 if x1 > image.width - x2 else image.width - other.width - 2
    mask = Image.new("L", other.size, 0)
    ImageDraw.Draw(mask).ellipse((0, 0, other.width - 1, other.height - 1), fill=255)
    image.paste(other, (left, max(0, y1 - wide)), mask)
    return image


@edit("several")
def poster_on_a_wall(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """A scene without people, a poster of a face in it."""
    scene = cover(pick(draw, others.scenes), (640, 480))
    poster = ImageOps.expand(_head(portrait, (300, 400)), 8, (235, 235, 230))
    return _hung(scene, poster, (draw.uniform(0.3, 0.7), 0.45), 0.28, draw)


@edit("several")
def on_a_screen(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """The photo on a screen in a room: dark edges, a moire of lines."""
    scene = cover(pick(draw, others.scenes), (640, 480))
    values = np.asarray(cover(portrait.image, (480, 300))).copy()
    values[::3] = (values[::3] * 0.75).astype(np.uint8)
    screen = ImageOps.expand(Image.fromarray(values), 12, (12, 12, 14))
    return _hung(scene, screen, (0.5, 0.45), 0.7, draw)


@edit("several")
def before_a_poster(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """A real face, a drawing hanging behind it."""
    image = portrait.image
    drawing = cover(pick(draw, others.drawings), (200, 200))
    x1, _, x2, _ = portrait.face
    right = image.width - x2 > x1
    centre = ((x2 + image.width) / 2 / image.width, 0.25) if right else (x1 / 2 / image.width, 0.25)
    return _hung(image, drawing, centre, 0.16, draw)


@edit("several")
def drawing_in_a_scene(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """A poster of a drawn face in a real room. (The portrait only gives the name.)"""
    scene = cover(pick(draw, others.scenes), (640, 480))
    poster = ImageOps.expand(cover(pick(draw, others.drawings), (360, 400)), 8, (240, 240, 240))
    return _hung(scene, poster, (0.5, 0.48), 0.42, draw)


@edit("several")
def drawing_and_photo(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    pair = Image.new("RGB", (640, 360))
    pair.paste(_head(portrait, (320, 360)))
    pair.paste(cover(pick(draw, others.drawings), (320, 360)), (320, 0))
    return pair


@edit("several")
def far_away(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """The portrait as a small thing in a large scene."""
    scene = cover(pick(draw, others.scenes), (640, 480))
    head = _head(portrait, (44, 50))
    scene.paste(head, (int(draw.integers(30, 560)), int(draw.integers(30, 400))))
    return scene
