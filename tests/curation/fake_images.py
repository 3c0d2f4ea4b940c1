"""Portraits of sorts, and what filters would have said of them."""

from __future__ import annotations

import io
from functools import cache
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from common.decode import decode

FAILS = {
    "grayscale": (0, 1, 2, 14),
    "text": (6, 7, 8, 14),
    "faces": (10, 11, 13, 15, 16),
    "caption_box": (18, 19),
    "anime": (20, 21, 6),
}
TWINS = (50, 51)


@cache
def picture(number: int) -> bytes:
    """A portrait of sorts: a wall, a head, two eyes; grey, lettered or crowded where a filter should object."""
    number = TWINS[0] if number in TWINS else number
    rng = np.random.default_rng(number)
    height, width = int(rng.integers(200, 520)), int(rng.integers(200, 520))
    top, bottom = rng.integers(40, 230, 3), rng.integers(40, 230, 3)
    ramp = np.linspace(0, 1, height)[:, None, None]
    image = Image.fromarray(np.broadcast_to(top + (bottom - top) * ramp, (height, width, 3)).astype(np.uint8))
    pen, (x, y), half = ImageDraw.Draw(image), (width / 2, height * 0.45), min(width, height) * 0.25
    for shift in (-0.5, 0.5) if number in FAILS["faces"] else (0,):
        cx = x + 2 * shift * half
        pen.ellipse((cx - 0.7 * half, y - half, cx + 0.7 * half, y + half), fill=(224, 172 - number, 130))
        for eye in (-0.3, 0.3):
            pen.ellipse((cx + (eye - 0.1) * half, y - 20, cx + (eye + 0.1) * half, y - 8), fill=(40, 30, 60))
    if number in FAILS["text"]:
        pen.text((10, height - 40), "SALE 50% OFF", fill="white", font_size=28)
    if number in FAILS["grayscale"]:
        image = image.convert("L").convert("RGB")
    out = io.BytesIO()
    image.save(out, "JPEG", quality=88)
    return out.getvalue()


@cache
def facts(number: int) -> tuple[int, int, str]:
    """Width, height and perceptual hash."""
    seen = decode(picture(number))
    return seen.width, seen.height, seen.phash()


def evidence(number: int, width: int, height: int) -> dict[str, Any]:
    rng = np.random.default_rng(1000 + number)
    fails = {check for check, numbers in FAILS.items() if number in numbers}
    boxes = [
        {"score": float(rng.uniform(0.3, 0.95)), "quad": [x, 0.9, x + 0.05, 0.9, x + 0.05, 0.95, x, 0.95]}
        for x in rng.uniform(0, 0.9, rng.integers(0, 4))
    ]
    if "text" in fails:
        boxes.append({"score": 0.99, "quad": [0.05, 0.7, 0.8, 0.7, 0.8, 0.85, 0.05, 0.85]})
    side = 0.25 * min(width, height)
    faces = [
        {
            "box": [width / 2 + (s - 0.5) * side, 0.2 * height, width / 2 + (s + 0.5) * side, 0.2 * height + side],
            "score": float(rng.uniform(0.6, 0.98)),
            "landmarks": [1.0] * 10,
        }
        for s in ((-0.6, 0.6) if "faces" in fails else (0,))
    ]
    neighbors = int(rng.integers(6, 30)) if "anime" in fails else int(rng.integers(0, 4))
    return {
        "grayscale": float(rng.uniform(0, 3) if "grayscale" in fails else rng.lognormal(3, 0.5) + 5),
        "text": boxes,
        "faces": faces,
        "anime": [{"box": [5.0, 5.0, 80.0, 80.0], "neighbors": neighbors}] if neighbors else [],
    }
