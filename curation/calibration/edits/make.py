"""Makes the edited pictures that a table of labels names, from the sample's photos; each is made once and kept."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path

import cv2
import numpy as np
import PIL
from PIL import Image

from common.hashing import sha256_of_bytes
from common.pinned_files.packages import cache_dir
from curation.calibration.edits import drawn, hidden, mild, several, toned, white, words  # noqa: F401  (they list edits)
from curation.calibration.edits.base import EDITS, Box, Others, Portrait
from curation.sample.boxes import stored_boxes
from curation.sample.photos import Photo

LONG_SIDE = 640
Label = Mapping[str, str]


def base_photos(labels: Iterable[Label]) -> list[Label]:
    """Of the sample's labels those whose photos are edited: good portraits, in the order of the table."""
    return _one_a_motif(label for label in labels if label["keep"] == "1" and not label["doubtful"])


def drawings(labels: Iterable[Label]) -> list[Label]:
    """Drawings with a face."""
    return _one_a_motif(label for label in labels if label["drawing"] != "photo" and label["faces"] not in ("", "0"))


def _one_a_motif(labels: Iterable[Label]) -> list[Label]:
    found: dict[str, Label] = {}
    for label in labels:
        if not label["file"].endswith(".gif") and not label["note"].startswith("variant of"):
            found.setdefault(label["motif"], label)
    return list(found.values())


def _is_scene(label: Label) -> bool:
    """Nobody in it, nothing to be remarked."""
    empty = label["faces"] == "0" and label["background_faces"] == "0" and label["text"] == "none"
    return empty and label["drawing"] == "photo" and label["colour"] == "colour" and not label["note"]


class Maker:
    """Makes edits of the sample's photos. `labels`: of tests/labels/sample-photos.csv."""

    def __init__(self, photos: Sequence[Photo], labels: Sequence[Label]):
        self.photos = {photo.sha256[:16]: photo for photo in photos}
        self.labels = {label["motif"]: label for label in reversed([*base_photos(labels), *drawings(labels)])}
        self.every = list(labels)
        self.portrait = cache(self._portrait)
        self.others = cache(self._others)

    def __call__(self, motif: str, name: str) -> bytes:
        """The JPEG of one edit.

        Raises:
            KeyError: no such edit, or no photo of that motif is edited.
        """
        portrait = self.portrait(motif)
        seed = int(sha256_of_bytes(f"{motif}/{name}".encode())[:16], 16)
        image = EDITS[name][1](portrait, np.random.default_rng(seed), self.others(self.labels[motif]["half"]))
        held = io.BytesIO()
        image.convert("RGB").save(held, "JPEG", quality=92)
        return held.getvalue()

    def _portrait(self, motif: str) -> Portrait:
        photo = self.photos[self.labels[motif]["sha256"]]
        image, ratio = _open(photo)
        box, score = max(stored_boxes()[photo.sha256], key=lambda item: (item[1], item[0]))
        if score < 0.3:  # a drawing in which no face was found
            face: Box = (image.width // 3, image.height // 4, image.width * 2 // 3, image.height * 3 // 4)
        else:
            face = tuple(round(value * ratio) for value in box)
        return Portrait(motif, image, face)

    def _others(self, half: str) -> Others:
        here = [label for label in self.every if label["half"] == half]
        return Others(
            tuple(self.portrait(label["motif"]) for label in base_photos(here)),
            tuple(_open(self.photos[label["sha256"]])[0] for label in here if _is_scene(label)),
            tuple(_open(self.photos[label["sha256"]])[0] for label in drawings(here) if label["faces"] == "1"),
        )


def _open(photo: Photo) -> tuple[Image.Image, float]:
    """RGB, transparency on white, at most LONG_SIDE pixels; and by how much it was made smaller."""
    with Image.open(photo.path) as opened:
        image = opened.convert("RGBA")
    paper = Image.new("RGBA", image.size, "white")
    image = Image.alpha_composite(paper, image).convert("RGB")
    ratio = min(1.0, LONG_SIDE / max(image.size))
    size = round(image.width * ratio), round(image.height * ratio)
    return image.resize(size, Image.Resampling.LANCZOS), ratio


def made_edits(
    photos: Sequence[Photo], labels: Sequence[Label], names: Iterable[str]
) -> dict[str, Callable[[], bytes]]:
    """How to read each edit, by its name "MOTIF/EDIT.jpg". It is made when it is first read, and kept in the cache."""
    folder = cache_dir() / "edits" / _version(labels)
    maker = Maker(photos, labels)
    return {name: partial(_read, folder / name, maker) for name in names}


def _read(path: Path, maker: Maker) -> bytes:
    if not path.exists():
        data = maker(path.parent.name, path.stem)
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(f".{os.getpid()}")
        scratch.write_bytes(data)
        scratch.replace(path)
    return path.read_bytes()


def _version(labels: Sequence[Label]) -> str:
    """Changes with all that an edit depends on beside the photos: these files, Pillow, OpenCV, the pools of others."""
    code = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    pools = repr(
        [(x["sha256"], x["motif"], x["half"], x["keep"], x["doubtful"], x["faces"], x["note"]) for x in labels]
    )
    return sha256_of_bytes(code + pools.encode() + f"{PIL.__version__} {cv2.__version__} {np.__version__}".encode())[
        :12
    ]
