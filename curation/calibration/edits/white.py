"""Portraits on white and in other empty surroundings: colour photos with little colour in them. Good photos."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image

from curation.calibration.edits.base import Draw, Others, Portrait, around, edit, floats, picture


def _cut_out(portrait: Portrait) -> np.ndarray:
    """How much of each pixel belongs to the person, float32 (h, w): GrabCut from a box about head and shoulders."""
    values = np.asarray(portrait.image)[..., ::-1].copy()
    x1, y1, x2, y2 = around(portrait.face, portrait.image.size, 0.9, 0.55, 6)
    width, height = x2 - x1, y2 - y1
    kinds = np.full(values.shape[:2], cv2.GC_BGD, np.uint8)
    kinds[y1:y2, x1:x2] = cv2.GC_PR_FGD
    top = portrait.face[3]
    kinds[y1:top, x1 : x1 + width // 7] = kinds[y1:top, x2 - width // 7 : x2] = cv2.GC_PR_BGD
    fx1, fy1, fx2, fy2 = portrait.face
    kinds[fy1:fy2, fx1:fx2] = cv2.GC_FGD
    kinds[fy2 : fy2 + height // 3, fx1:fx2] = cv2.GC_FGD
    cv2.setRNGSeed(7)
    cv2.grabCut(values, kinds, None, np.zeros((1, 65)), np.zeros((1, 65)), 3, cv2.GC_INIT_WITH_MASK)
    person = np.isin(kinds, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.float32)
    return cv2.GaussianBlur(cv2.morphologyEx(person, cv2.MORPH_OPEN, np.ones((5, 5))), (0, 0), 1.2)


def _before(portrait: Portrait, background: np.ndarray) -> Image.Image:
    share = _cut_out(portrait)[..., None]
    return picture(floats(portrait.image) * share + background * (1 - share))


@edit("white")
def on_white(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    return _before(portrait, np.ones(3, np.float32))


@edit("white")
def on_grey(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    return _before(portrait, np.full(3, draw.uniform(0.55, 0.9), np.float32))


@edit("white")
def on_black(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    return _before(portrait, np.full(3, 0.03, np.float32))


@edit("white")
def small_on_white(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """A cut-out of head and shoulders in much white."""
    cut = _before(portrait, np.ones(3, np.float32)).crop(around(portrait.face, portrait.image.size, 0.8, 0.5, 0.8))
    canvas = Image.new("RGB", (round(cut.width * 1.7), round(cut.height * 1.3)), (255, 255, 255))
    canvas.paste(cut, (round(canvas.width * draw.uniform(0.05, 0.35)), canvas.height - cut.height))
    return canvas


@edit("white")
def round_portrait(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """A disc on white, as profiles have it."""
    x1, y1, x2, y2 = portrait.face
    side = round(1.7 * max(x2 - x1, y2 - y1))
    left, top = (x1 + x2 - side) // 2, (y1 + y2 - side) // 2
    square = Image.new("RGB", (side, side), (255, 255, 255))
    square.paste(portrait.image, (-left, -top))
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    inside = np.clip((1 - np.hypot(x, y)) * side / 4, 0, 1)[..., None].astype(np.float32)
    return picture(floats(square) * inside + 1 - inside)


@edit("white")
def high_key(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """Very bright, with little contrast left."""
    return picture(1 - (1 - floats(portrait.image)) * draw.uniform(0.4, 0.55))


@edit("white")
def low_key(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """Very dark: some light on the face, the rest black."""
    values = floats(portrait.image)
    x1, y1, x2, y2 = portrait.face
    y, x = np.mgrid[: values.shape[0], : values.shape[1]]
    far = np.hypot((x - (x1 + x2) / 2) / (x2 - x1), (y - (y1 + y2) / 2) / (y2 - y1))
    return picture(values * np.exp(-(far**2)).astype(np.float32)[..., None] * 0.7)
