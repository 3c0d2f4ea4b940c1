"""The one decode: views, frames, and what becomes of odd pixels."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from common.decode import ImageLimits, as_jpeg, decode, sniff, upright_box
from tests.common.decode.files import encoded


@pytest.fixture
def marked():
    """A 120 x 80 image with a red box in its upper left part: (12, 8)-(36, 24)."""
    array = np.full((80, 120, 3), 255, np.uint8)
    array[8:24, 12:36] = (255, 0, 0)
    return array


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_of_the_stored_frame_are_turned_with_the_pixels(marked, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = decode(encoded(marked, quality=95, exif=exif), ImageLimits(min_side=1))
    assert picture.orientation == orientation
    box = upright_box((12, 8, 36, 24), orientation, picture.width, picture.height)
    x1, y1, x2, y2 = (int(value) for value in box)
    assert (picture.width, picture.height) == ((80, 120) if orientation >= 5 else (120, 80))
    red = (picture.rgb[..., 0] > 200) & (picture.rgb[..., 1] < 60)
    assert red[y1 + 2 : y2 - 2, x1 + 2 : x2 - 2].all()
    assert red.sum() <= (x2 - x1 + 2) * (y2 - y1 + 2)


def test_the_decode_scale_comes_from_the_header():
    big = np.random.default_rng(0).integers(0, 255, (1000, 2000, 3), np.uint8)
    picture = decode(encoded(big), ImageLimits(working_side=500))
    assert picture.rgb.shape == (250, 500, 3)
    assert (picture.width, picture.height, picture.scale) == (2000, 1000, (0.25, 0.25))
    assert decode(encoded(big), ImageLimits(working_side=501)).rgb.shape == (500, 1000, 3)
    assert decode(encoded(big), ImageLimits(working_side=500), full_size=True).rgb.shape == (1000, 2000, 3)


def test_views_never_enlarge_and_are_made_once(marked):
    picture = decode(encoded(marked), ImageLimits(min_side=1))
    assert picture.view(1000).shape == marked.shape
    assert picture.view(60).shape == (40, 60, 3)
    assert picture.view(60) is picture.view(60)


def test_transparency_is_over_white_and_16_bits_keep_their_upper_8():
    clear = np.zeros((40, 40, 4), np.uint8)
    assert (decode(encoded(clear, "PNG")).rgb == 255).all()
    deep = np.full((40, 40), 0x8000, np.uint16)
    assert np.unique(decode(encoded(deep, "PNG")).rgb).tolist() == [128]


def test_a_jpeg_is_packed_as_it_came_and_a_png_once():
    array = np.random.default_rng(1).integers(0, 255, (64, 48, 3), np.uint8)
    jpeg = encoded(array)
    assert as_jpeg(jpeg, "jpeg", 95) is jpeg
    png = encoded(array, "PNG")
    packed = as_jpeg(png, "png", 95)
    assert packed == as_jpeg(png, "png", 95)
    assert sniff(packed) == "jpeg"
    assert Image.open(io.BytesIO(packed)).size == (48, 64)


@pytest.mark.parametrize(
    ("start", "kind"),
    [(b"\xff\xd8\xff\xe0", "jpeg"), (b"\x89PNG\r\n\x1a\n", "png"), (b"RIFF\0\0\0\0WEBP", "webp"), (b"GIF89a", "gif"),
     (b"<!DOCTYPE html>", None), (b"%PDF-", None), (b"<svg>", "svg"), (b"", None)],
)  # fmt: skip
def test_the_first_bytes_say_what_it_is(start, kind):
    assert sniff(start) == kind
