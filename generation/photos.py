"""Reads a photo to draw from: bytes or a file in, upright RGB pixels out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from common.decode import ImageLimits, Undecodable, decode


class PhotoError(ValueError):
    """A file that is not a photo to draw from, and why."""


def read_photo(path: str | Path) -> np.ndarray:
    """The pixels of a photo file: uint8 RGB (h, w, 3), upright.

    Raises:
        PhotoError: no such file, or not a photo.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise PhotoError(f"the photo cannot be read: {error}") from error
    return decode_photo(data)


def decode_photo(data: bytes) -> np.ndarray:
    """The pixels of an encoded photo: uint8 RGB (h, w, 3), upright.

    Raises:
        PhotoError: not a photo.
    """
    try:
        return decode(data, ImageLimits(), full_size=True).rgb
    except Undecodable as error:
        raise PhotoError(f"not a readable photo: {error}") from error
