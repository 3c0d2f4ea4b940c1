"""The pictures that a tiny base is trained on: one of each, parted by photo. No torch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.sparse.csgraph import connected_components

from common.errors import UserError

ALIKE = 10  # of 64 bits: pictures of one motif, re-encoded or filtered, differ in fewer; of two, in some thirty


class PictureError(UserError, ValueError):
    """Pictures that cannot be trained on; the message says why, and the remedy."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """`pixels`: uint8 (N, size, size, 3), RGB; `photos`: for each the name (a hash) of the photo that it was cut from.

    `faces`: bool (N,), those that are a face as the model is trained on it; the others are there to learn more from.

    Raises:
        PictureError: another shape or type, or not a name for each.
    """

    pixels: np.ndarray
    photos: Sequence[str]
    faces: np.ndarray

    def __post_init__(self) -> None:
        shape = self.pixels.shape
        if self.pixels.dtype != np.uint8 or len(shape) != 4 or shape[1] != shape[2] or shape[3] != 3:
            raise PictureError(f"pixels: expected uint8 (N, size, size, 3), got {self.pixels.dtype} {shape}")
        if len(self.photos) != len(self.pixels):
            raise PictureError(f"photos: {len(self.photos)} names for {len(self.pixels)} pictures; give one for each")
        if self.faces.dtype != bool or self.faces.shape != (len(self.pixels),):
            raise PictureError(
                f"faces: expected bool ({len(self.pixels)},), got {self.faces.dtype} {self.faces.shape}: one for each"
            )

    def __len__(self) -> int:
        return len(self.pixels)

    def of(self, chosen: np.ndarray) -> Pictures:
        """Those that `chosen`, bool (N,), marks."""
        names = [photo for photo, wanted in zip(self.photos, chosen, strict=True) if wanted]
        return Pictures(self.pixels[chosen], names, self.faces[chosen])

    def digest(self) -> str:
        """sha256 over pixels, names and which are faces, in their order."""
        hasher = hashlib.sha256(repr(self.pixels.shape).encode() + "\n".join(self.photos).encode())
        hasher.update(np.ascontiguousarray(self.pixels).tobytes() + self.faces.tobytes())
        return hasher.hexdigest()


def distinct(pictures: Pictures) -> Pictures:
    """One photo of each motif, with all pictures of it: the first in the order of names.

    Two photos are one motif if any pictures of them have perceptual hashes at most `ALIKE` bits apart, as they are or
    mirrored. A photo that comes in thirty versions would otherwise be learnt by heart, and be held out as well.
    """
    plain = _hashes(pictures.pixels)
    mirrored = _hashes(pictures.pixels[:, :, ::-1])
    names = sorted(set(pictures.photos))
    place = {name: number for number, name in enumerate(names)}
    owner = np.array([place[photo] for photo in pictures.photos], int)
    alike = np.zeros((len(names), len(names)), bool)
    for index, bits in enumerate(plain):
        apart = np.minimum((plain != bits).sum(1), (mirrored != bits).sum(1))
        alike[owner[index], owner[apart <= ALIKE]] = True
    _, motifs = connected_components(alike, directed=False)
    _, first = np.unique(motifs, return_index=True)
    return pictures.of(np.isin(owner, first))


def split(pictures: Pictures, share: float = 0.1) -> tuple[Pictures, Pictures]:
    """(trained on, held out). Whole photos: the hash of a photo's name decides, whatever other photos there are.

    Raises:
        PictureError: there is nothing to train on, or no face held out.
    """
    held = np.array([_unit(photo) < share for photo in pictures.photos], bool)
    if held.all() or not (held & pictures.faces).any():
        raise PictureError(
            f"of {len(set(pictures.photos))} photos {'all' if held.all() else 'none with a face'} are held out at a "
            f"share of {share}: more photos of faces are needed, some 20 at the least"
        )
    return pictures.of(~held), pictures.of(held)


def _unit(name: str) -> float:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64


def _hashes(pixels: np.ndarray) -> np.ndarray:
    phash = cv2.img_hash.PHash.create()
    rows = [phash.compute(cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2BGR)) for rgb in pixels]
    return np.unpackbits(np.concatenate(rows), axis=1) if rows else np.zeros((0, 64), np.uint8)
