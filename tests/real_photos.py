"""Fixtures: real photos by name, and the file of the yolov5-face detector."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from common.decode import Picture, decode
from common.pinned_files import weights
from curation.sample.photos import INSIGHTFACE, SKIMAGE

FILES = {
    "astronaut": (SKIMAGE, "skimage/data/astronaut.png"),  # one face, colour
    "cat": (SKIMAGE, "skimage/data/chelsea.png"),
    "rocket": (SKIMAGE, "skimage/data/rocket.jpg"),
    "page": (SKIMAGE, "skimage/data/page.png"),  # a printed page, grey
    "six": (INSIGHTFACE, "data/images/t1.jpg"),  # six faces
}


@cache
def read(name: str) -> bytes:
    package, member = FILES[name]
    root = package.fetch()
    return next(path for path in root.rglob(member.rsplit("/", 1)[1]) if path.as_posix().endswith(member)).read_bytes()


@pytest.fixture(scope="session")
def photo() -> Callable[[str], Picture]:
    """A freshly decoded photo by name."""
    return lambda name: decode(read(name))


@pytest.fixture(scope="session")
def yolov5_face() -> weights.Resolved:
    try:
        return weights.resolve("yolov5-face")
    except weights.RefusedError:
        raise
    except weights.WeightError as error:
        pytest.skip(f"yolov5-face cannot be had here: {str(error).splitlines()[-1].strip()}")
