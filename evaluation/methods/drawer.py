"""A method at work in one process: a reference's photo and what is asked of it in, encoded pictures or reasons out.

The same here and in an actor of Ray (`on_ray.py`): it writes nothing, its caller keeps what comes out (`drawing.py`).
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from common.version import VERSION
from evaluation import method_facts
from evaluation.methods.base import DrawingMethod
from evaluation.methods.measure import Measured, PeakMemory
from evaluation.methods.sources import Unavailable
from generation.photos import decode_photo
from generation.provenance import Provenance, encoded


@dataclass(frozen=True)
class Wanted:
    """A picture that is asked of a reference; `key`: of everything that it depends on."""

    key: str
    words: str
    seed: int


@dataclass(frozen=True)
class Outcome:
    """What came of a picture: a PNG with its record and what it cost, or `failure`, the reason why there is none."""

    key: str
    png: bytes = b""
    cost: Measured | None = None
    failure: str = ""


class Drawer:
    """A method whose models are loaded.

    Raises:
        Unavailable: they cannot be.
    """

    def __init__(self, method: DrawingMethod):
        self.method = method
        self._peak = PeakMemory(method.sources.device_name)
        try:
            method.load()
        except (
            Exception
        ) as error:  # a file that is no model, too little memory, ...: any of them is the reason in its row
            raise Unavailable(f"cannot be loaded: {type(error).__name__}: {one_line(error)}") from error

    def draw(self, photo: bytes, wanted: Sequence[Wanted]) -> Iterator[Outcome]:
        """The pictures of a reference, in their order, each as it is drawn. `photo`: its file's bytes.

        Raises:
            Unavailable: the method broke.
        """
        try:
            face = self.method.prepare([decode_photo(photo)])
        except ValueError as error:
            yield from (Outcome(item.key, failure=one_line(error)) for item in wanted)
            return
        except (RuntimeError, MemoryError) as error:
            raise _broken(error) from error
        for item in wanted:
            yield self._drawn(face, item)

    def _drawn(self, face: Any, item: Wanted) -> Outcome:
        try:
            began = time.monotonic()
            image = self.method.draw(face, item.words, item.seed)
            seconds = time.monotonic() - began
            check_picture(image)
        except ValueError as error:  # the photo's or the picture's fault: a row with a reason, and on
            return Outcome(item.key, failure=one_line(error))
        except (RuntimeError, MemoryError) as error:  # the method's: the next picture would say the same
            raise _broken(error) from error
        held = self.method.peak_bytes()
        cost = Measured(item.key, seconds, self._peak.bytes() if held is None else held, self._peak.device)
        return Outcome(item.key, self._encoded(image, item.seed), cost)

    def _encoded(self, image: Image.Image, seed: int) -> bytes:
        told = self.method.facts(self.method.settings, self.method.sources)
        record = Provenance(
            software="facemakeup evaluation",
            version=VERSION,
            pipeline=self.method.title,
            base_model=str(told.get("base_model", method_facts.NOT_SAID)),
            weights=self.method.weights,
            seed=seed,
        )
        return encoded(image, Path("drawn.png"), record, watermark=False)[0]  # a mark would be scored with the picture


def check_picture(image: Image.Image) -> None:
    """Raises ValueError: the picture is of one colour, which no drawing is."""
    if all(low == high for low, high in Image.fromarray(np.asarray(image.convert("RGB"))).getextrema()):
        raise ValueError("the picture is of one colour: the drawing failed")


def free_memory() -> None:
    """What the method before let go of, for the next one."""
    gc.collect()
    torch = sys.modules.get("torch")  # not imported: nothing was loaded
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def one_line(error: object) -> str:
    return " ".join(str(error).split())


def _broken(error: Exception) -> Unavailable:
    return Unavailable(f"broke while it drew: {type(error).__name__}: {one_line(error)}")
