"""The mark is found after what happens to pictures, is not found where it never was, and is not seen."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from common.decode import decode
from curation.sample.photos import photos
from generation import watermark
from generation.watermark import BITS, FALSE_POSITIVE_RATE, MIN_SIDE, detect, mark, tail

SIZES = [(256, 256), (512, 512), (512, 768), (261, 395)]  # height, width; the last: no whole number of blocks


@pytest.fixture(scope="module")
def real() -> list[np.ndarray]:
    """A hundred photos, drawings and film stills as they are."""
    pictures = [decode(photo.path.read_bytes()).rgb for photo in photos()[::3] if photo.path.suffix != ".gif"]
    return [rgb for rgb in pictures if min(rgb.shape[:2]) >= MIN_SIDE]


def fitted(rgb: np.ndarray, height: int, width: int) -> np.ndarray:
    """The middle of the picture, of the size that is asked for."""
    ratio = max(height / rgb.shape[0], width / rgb.shape[1])
    size = max(width, round(rgb.shape[1] * ratio)), max(height, round(rgb.shape[0] * ratio))
    scaled = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if ratio < 1 else cv2.INTER_CUBIC)
    top, left = (scaled.shape[0] - height) // 2, (scaled.shape[1] - width) // 2
    return np.ascontiguousarray(scaled[top : top + height, left : left + width])


def smooth(height: int, width: int) -> dict[str, np.ndarray]:
    """Pictures with no texture to hide in, and two with no room above or below."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    sky = np.stack([90 + 60 * y, 140 + 70 * y, 220 + 30 * y], -1)
    gradient = np.repeat((255 * x)[..., None], 3, -1)
    plain = {str(level): np.full((height, width, 3), level) for level in (0, 16, 128, 255)}
    return {name: rgb.round().astype(np.uint8) for name, rgb in {"sky": sky, "gradient": gradient, **plain}.items()}


def encoded(rgb: np.ndarray, file_format: str, quality: int, **options) -> np.ndarray:
    out = io.BytesIO()
    Image.fromarray(rgb).save(out, file_format, quality=quality, **options)
    return np.asarray(Image.open(out).convert("RGB"))


def jpeg(rgb: np.ndarray, quality: int = 75) -> np.ndarray:
    return encoded(rgb, "JPEG", quality, subsampling="4:2:0")


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((one.astype(float) - other) ** 2)))


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_survives_jpeg_in_photos_and_is_not_seen(real, size):
    for rgb in (fitted(rgb, *size) for rgb in real[::5]):
        marked = mark(rgb)
        assert detect(jpeg(marked)).present
        assert psnr(rgb, marked) > 38


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_survives_jpeg_where_there_is_no_texture(size):
    for name, rgb in smooth(*size).items():
        marked = mark(rgb)
        assert detect(jpeg(marked)).present, name
        assert psnr(rgb, marked) > 44, name


@pytest.mark.parametrize(
    "change",
    [
        lambda rgb: jpeg(rgb, 60),
        lambda rgb: jpeg(jpeg(rgb, 85), 75),
        lambda rgb: encoded(rgb, "WEBP", 80),
        lambda rgb: cv2.GaussianBlur(rgb, (3, 3), 0.7),
        lambda rgb: (rgb * 0.9 + 10).astype(np.uint8),
        lambda rgb: (rgb + np.random.default_rng(1).normal(0, 4, rgb.shape)).round().clip(0, 255).astype(np.uint8),
    ],
    ids=["jpeg 60", "jpeg twice", "webp 80", "blur", "brightness", "noise"],
)
def test_survives_more_than_it_must(real, change):
    pictures = [fitted(rgb, 256, 256) for rgb in real[::8]] + list(smooth(256, 256).values())
    assert all(detect(change(mark(rgb))).present for rgb in pictures)


def test_unchanged_pixels_give_every_bit(real):
    found = detect(mark(fitted(real[0], 512, 512)))
    assert (found.present, found.bits_matching, found.bits) == (True, BITS, 48)
    assert found.p_value == 2.0**-48


def test_is_not_found_in_pictures_that_were_never_marked(real):
    found = [detect(fitted(rgb, 256, 256)) for rgb in real]
    assert not any(one.present for one in found)
    matching = np.array([one.bits_matching for one in found])
    assert abs(matching.mean() - BITS / 2) < 4 * np.sqrt(BITS / 4 / len(matching))
    assert not any(detect(rgb).present for rgb in smooth(256, 256).values())


def test_matching_bits_of_unmarked_pictures_are_binomial_whatever_the_key(real, monkeypatch):
    pictures = [fitted(rgb, 256, 256) for rgb in real[::5]]
    matching = []
    for key in range(30):
        monkeypatch.setattr(watermark, "KEY", b"another %d" % key)
        watermark._assignment.cache_clear()
        matching += [detect(rgb).bits_matching for rgb in pictures]
    watermark._assignment.cache_clear()
    for least in (24, 28, 31):
        expected = tail(least)
        noise = np.sqrt(expected * (1 - expected) / len(matching))
        assert abs(np.mean(np.array(matching) >= least) - expected) < 4 * noise


def test_the_threshold_is_the_lowest_that_keeps_the_false_positive_rate():
    assert tail(0) == 1
    assert tail(48) == 2.0**-48
    assert tail(41) <= FALSE_POSITIVE_RATE < tail(40)


def test_the_same_picture_gives_the_same_bits_and_is_not_written_to(real):
    rgb = fitted(real[3], 256, 256)
    before = rgb.copy()
    rgb.setflags(write=False)
    assert (mark(rgb) == mark(before)).all()
    assert (rgb == before).all()


def test_marking_twice_changes_next_to_nothing(real):
    once = mark(fitted(real[4], 256, 256))
    assert psnr(once, mark(once)) > 50


def test_the_mark_of_1_is_the_mark_of_every_version():
    """Pictures outlive versions: the keyed layout must never move."""
    bit, sign, _ = watermark._assignment(1024)
    assert bit[:8].tolist() == [10, 19, 33, 3, 35, 11, 9, 30]
    assert sign[:8].tolist() == [1.0, -1.0, 1.0, 1.0, -1.0, -1.0, -1.0, -1.0]


def test_too_small_a_picture_is_neither_marked_nor_searched():
    small = np.zeros((MIN_SIDE - 1, 512, 3), np.uint8)
    with pytest.raises(ValueError, match="512 x 255 is below 256"):
        mark(small)
    assert not detect(small).present


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((300, 300), np.uint8), np.zeros((300, 300, 4), np.uint8), np.zeros((300, 300, 3)), [[0]]],
    ids=["grey", "alpha", "float", "list"],
)
def test_other_arrays_are_refused_by_name(wrong):
    for function in (mark, detect):
        with pytest.raises(ValueError, match=r"rgb: .* is not a uint8 array of shape \(h, w, 3\)"):
            function(wrong)
