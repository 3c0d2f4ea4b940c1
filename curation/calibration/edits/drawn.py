"""Drawings: photos made to look like them, and what happens to cartoons on the web."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from curation.calibration.edits.base import Draw, Others, Portrait, edit, floats, luminance, picture


@edit("stylised")
def pencil(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """A drawing in coloured pencils."""
    _, coloured = cv2.pencilSketch(np.asarray(portrait.image)[..., ::-1].copy(), None, None, 50, 0.09, 0.03)
    return Image.fromarray(np.ascontiguousarray(coloured[..., ::-1]))


@edit("stylised")
def watercolour(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    painted = cv2.stylization(np.asarray(portrait.image)[..., ::-1].copy(), None, 90, 0.5)
    return Image.fromarray(np.ascontiguousarray(painted[..., ::-1]))


@edit("stylised")
def flat_cartoon(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """Few flat colours and black lines."""
    values = np.asarray(portrait.image)
    for _ in range(4):
        values = cv2.bilateralFilter(values, 9, 40, 9)
    flat = np.asarray(Image.fromarray(values).quantize(10, kmeans=3, dither=Image.Dither.NONE).convert("RGB"))
    grey = cv2.medianBlur(cv2.cvtColor(values, cv2.COLOR_RGB2GRAY), 5)
    lines = cv2.adaptiveThreshold(grey, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY, 11, 4)
    return Image.fromarray(cv2.bitwise_and(flat, flat, mask=lines))


@edit("stylised")
def poster_colours(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """Four inks, as on a campaign's poster."""
    grey = luminance(floats(portrait.image.filter(ImageFilter.GaussianBlur(2))))
    inks = np.array([[0, 48, 80], [218, 20, 26], [113, 150, 160], [253, 229, 169]], np.float32) / 255
    return picture(inks[np.digitize(grey, np.quantile(grey, (0.25, 0.5, 0.72)))])


@edit("stylised")
def oil(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """Strokes of a brush: every pixel the commonest lightness around it."""
    image = portrait.image.filter(ImageFilter.ModeFilter(9))
    return ImageEnhance.Color(image.filter(ImageFilter.EDGE_ENHANCE)).enhance(1.5)


@edit("stylised")
def halftone(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """Dots of print in three colours, as in comics."""
    values = floats(portrait.image)
    y, x = np.mgrid[: values.shape[0], : values.shape[1]].astype(np.float32)
    planes = []
    for channel, angle in enumerate((0.26, 1.3, 0.79)):
        u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        dots = 0.5 + 0.25 * (np.cos(u * 0.9) + np.cos(v * 0.9))
        planes.append((values[..., channel] > dots * 0.9).astype(np.float32))
    return picture(np.stack(planes, axis=2))


@edit("stylised")
def line_art(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """Lines in one colour on coloured paper."""
    grey = np.asarray(portrait.image.convert("L").filter(ImageFilter.GaussianBlur(1)))
    lines = cv2.adaptiveThreshold(grey, 255, cv2.ADAPTIVE_THRESH_GAUSSIAN_C, cv2.THRESH_BINARY, 15, 5)
    return ImageOps.colorize(Image.fromarray(lines), (40, 30, 90), (250, 235, 190))


@edit("stylised")
def embroidery(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """Coarse squares of few colours: a mosaic, a cross-stitch."""
    image = portrait.image
    cells = image.resize((max(1, image.width // 7), max(1, image.height // 7)), Image.Resampling.BOX)
    cells = cells.quantize(20, kmeans=2, dither=Image.Dither.NONE).convert("RGB")
    values = np.asarray(cells.resize((cells.width * 7, cells.height * 7), Image.Resampling.NEAREST)).copy()
    values[::7] = values[:, ::7] = (values[:, ::7].mean(axis=(0, 1)) * 0.5).astype(np.uint8)
    return Image.fromarray(values)


# -- of drawings -------------------------------------------------------------------------------------------------


@edit("drawing")
def drawing_cropped(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """About its middle, or about its face where a box of one is known."""
    image, (x1, y1, x2, y2) = portrait.image, portrait.face
    pad = 0.6
    wide, tall = x2 - x1, y2 - y1
    box = (x1 - pad * wide, y1 - pad * tall, x2 + pad * wide, y2 + pad * tall)
    return image.crop((max(0, round(box[0])), max(0, round(box[1])), min(image.width, round(box[2])),
                       min(image.height, round(box[3]))))  # fmt: skip


@edit("drawing")
def drawing_mirrored(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    return ImageEnhance.Color(ImageOps.mirror(portrait.image)).enhance(draw.uniform(0.5, 0.8))


@edit("drawing")
def drawing_photographed(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """As a camera saw it on a page: soft, noisy, unevenly lit, seen from the side."""
    image = portrait.image.filter(ImageFilter.GaussianBlur(1.2))
    values = floats(image)
    light = np.linspace(0.6, 1.05, image.width, dtype=np.float32)[None, :, None]
    values = values * light * (1, 0.96, 0.86) + draw.normal(0, 0.03, values.shape)
    wide, tall = image.size
    source = np.array([[0, 0], [wide, 0], [wide, tall], [0, tall]], np.float32)
    target = source * 0.86 + np.array([[0.1, 0.06], [0.04, 0.12], [0.1, 0.05], [0.03, 0.1]], np.float32) * image.size
    matrix = cv2.getPerspectiveTransform(source, target.astype(np.float32))
    table = (96, 72, 50)
    return Image.fromarray(cv2.warpPerspective(np.asarray(picture(values)), matrix, image.size, borderValue=table))


@edit("drawing")
def drawing_shaded(portrait: Portrait, draw: Draw, others: Others) -> Image.Image:
    """With soft light over its flat colours, as a painter or a renderer would."""
    values = floats(portrait.image)
    grey = cv2.GaussianBlur(luminance(values), (0, 0), 6)
    slope = cv2.Sobel(grey, cv2.CV_32F, 1, 1, ksize=5)
    return picture(
        values * (1 + 0.5 * np.tanh(slope))[..., None] * np.linspace(1.1, 0.8, values.shape[0])[:, None, None]
    )
