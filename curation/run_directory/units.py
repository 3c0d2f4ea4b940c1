"""Units: the images of one fetched part of one round, the grain in which scores are made and stored.

Here are the few functions that every later step shares: which units there are, their bytes, their scores.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from common.decode import upright_box
from common.errors import UserError
from common.hashing import sha256_of_bytes
from curation.filters.base import Filter
from curation.filters.evidence import Evidence
from curation.run_directory.candidates import read_candidates
from curation.run_directory.run import Run


@dataclass(frozen=True)
class Unit:
    """The images of one fetched part of one round, in id order: `offsets`, `sizes` and `hashes` belong to `ids`."""

    name: str
    tar: str  # relative to the run
    ids: list[str]
    offsets: list[int]  # of the bytes in the tar
    sizes: list[int]
    hashes: list[str]  # sha256

    def read(self, run: Run, row: int) -> bytes:
        """One image's bytes as fetched.

        Raises:
            BytesChanged: their hash is not the snapshot's.
        """
        data = run.read_bytes(self.tar, self.offsets[row], self.sizes[row])
        if sha256_of_bytes(data) != self.hashes[row]:
            raise BytesChanged(
                f"{run.url(self.tar)}: the bytes at {self.offsets[row]} are not those that were fetched. The file was "
                "changed or is damaged: restore it, or fetch again into a new run directory"
            )
        return data


class BytesChanged(UserError, RuntimeError):
    """A fetched file no longer holds what the snapshot says."""


def units_of(snapshot: pa.Table) -> list[Unit]:
    """The units of a snapshot, in the order of their names."""
    table = snapshot.sort_by([("unit", "ascending"), ("id", "ascending")])
    names = table["unit"].to_numpy(zero_copy_only=False)
    starts = np.flatnonzero(np.append(True, names[1:] != names[:-1])) if len(names) else np.zeros(0, np.int64)
    units = []
    for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(names)], strict=True):
        rows = table.slice(start, stop - start)
        aligned = (rows[column].to_pylist() for column in ("id", "offset", "size", "sha256"))
        units.append(Unit(names[start], rows["tar"][0].as_py(), *aligned))
    return units


def _score_names(folder: str, unit: str) -> Iterator[str]:
    """`UNIT.parquet`, and for what later cuts asked for `UNIT-1.parquet`, `UNIT-2.parquet`, ..."""
    yield f"{folder}/{unit}.parquet"
    for number in itertools.count(1):
        yield f"{folder}/{unit}-{number}.parquet"


def read_scores(run: Run, folder: str, unit: str) -> pa.Table | None:
    """All that is stored of a unit. Asked for by name: listing a folder of ten thousand files costs seconds."""
    names = itertools.takewhile(run.exists, _score_names(folder, unit))
    tables = [run.read_table(name) for name in names]
    return pa.concat_tables(tables) if tables else None


def score_file(run: Run, folder: str, unit: str) -> str:
    """The first name that is not taken."""
    return next(name for name in _score_names(folder, unit) if not run.exists(name))


class UnitScores:
    """Everything that is known of a unit's images, row for row in the order of its ids."""

    def __init__(self, run: Run, unit: Unit, filters: Mapping[str, Filter]):
        self.ids = list(unit.ids)
        self.name = unit.name
        stored = read_scores(run, "scores/images", self.name)
        known = {} if stored is None else {row["id"]: row for row in stored.to_pylist()}
        self.images: list[dict[str, Any] | None] = [known.get(text) for text in self.ids]
        self.evidence = {
            name: Evidence.align(item.schema, self.ids, read_scores(run, item.folder, self.name))
            for name, item in filters.items()
        }
        self.candidates = read_candidates(run, self.ids)
        self._faces = self.candidates["faces"].to_pylist()
        self.boxes = [upright_boxes(faces, image) for faces, image in zip(self._faces, self.images, strict=True)]

    @property
    def status(self) -> list[str | None]:
        """Of each image: `ok`, why it could not be decoded, or None where that was not tried."""
        return [image["status"] if image else None for image in self.images]

    def note_image(self, row: int, facts: dict[str, Any]) -> None:
        self.images[row] = facts
        self.boxes[row] = upright_boxes(self._faces[row], facts)


def upright_boxes(faces: list[dict[str, Any]], image: Mapping[str, Any] | None) -> list[list[float]]:
    """FaceCaption's boxes, which live in the stored frame, turned into the upright one; none before the decode."""
    if not image or image["width"] is None:
        return []
    turn = (image["exif_orientation"], image["width"], image["height"])
    return [list(upright_box(tuple(face["box"]), *turn)) for face in faces]
