"""What is drawn from: one photo with what is known of it, and how it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from common.errors import UserError
from generation.photos import decode_photo
from model.conditioning.faces import Face


class InputError(UserError, ValueError):
    """Options that nothing can be drawn from; the message names the option or the folder, and the remedy."""


@dataclass(frozen=True)
class FaceInput:
    """A photo to draw from. `load` gives its pixels, uint8 (h, w, 3), upright; `face` is None where it is to be found.

    `name`: usable in a file name. `encoder`: fingerprint of the encoder that made `face.identity`, "" where there
    is none. `problem`: why nothing can be drawn from it, or "".
    """

    name: str
    load: Callable[[], np.ndarray]
    face: Face | None = None
    caption: str | None = None
    encoder: str = ""
    problem: str = ""


@dataclass(frozen=True)
class FaceInputs:
    """All photos to draw from: their number, and `read`, which reads them one after the other.

    `left_out`: a sentence about what else is in the source, or "".
    """

    count: int
    read: Callable[[], Iterator[FaceInput]]
    left_out: str = ""


def unusable(name: str, problem: str) -> FaceInput:
    """An input whose only use is to say why there is no picture of it."""
    return FaceInput(name, lambda: decode_photo(b""), problem=problem)
