"""Units: the images of one fetched part of one round, the grain in which scores are made and stored.

Here are the few functions that every later step shares: which units there are, their bytes, their scores.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from common.decode import sha256, upright_box
from curation.cutting.judge import Evidence
from curation.filters.base import Filter
from curation.run_directory.candidates import read_candidates
from curation.run_directory.run import Run

ALIGNED = {"ids": "id", "offsets": "offset", "sizes": "size", "hashes": "sha256"}


class BytesChanged(RuntimeError):
    """A fetched file no longer holds what the snapshot says."""


def units_of(snapshot: pa.Table) -> list[dict[str, Any]]:
    """One dict a unit, in order: `unit`, `tar`, and the aligned lists `ids`, `offsets`, `sizes`, `hashes`, in id order."""
    table = snapshot.sort_by([("unit", "ascending"), ("id", "ascending")])
    names = table["unit"].to_numpy(zero_copy_only=False)
    starts = np.flatnonzero(np.append(True, names[1:] != names[:-1])) if len(names) else np.zeros(0, np.int64)
    units = []
    for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(names)], strict=True):
        rows = table.slice(start, stop - start)
        lists = {key: rows[column].to_pylist() for key, column in ALIGNED.items()}
        units.append({"unit": names[start], "tar": rows["tar"][0].as_py(), **lists})
    return units


def read_image(run: Run, tar: str, offset: int, size: int, expected: str) -> bytes:
    """One image's bytes as fetched.

    Raises:
        BytesChanged: their hash is not the snapshot's.
    """
    data = run.read_bytes(tar, offset, size)
    if sha256(data) != expected:
        raise BytesChanged(
            f"{run.url(tar)}: the bytes at {offset} are not those that were fetched. The file was changed or is "
            "damaged: restore it, or fetch again into a new run directory"
        )
    return data


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

    def __init__(self, run: Run, unit: Mapping[str, Any], filters: Mapping[str, Filter]):
        self.ids = list(unit["ids"])
        self.name = unit["unit"]
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


def audit_limit(snapshot: pa.Table, share: float, minimum: int, seed: int) -> int:
    """The audit lane is every image whose `audit_key` is below this: the larger of a share and a number."""
    count = max(round(share * snapshot.num_rows), minimum)
    if count >= snapshot.num_rows:
        return 1 << 64
    keys = np.sort(np.array([audit_key(text, seed) for text in snapshot["id"].to_pylist()], dtype=np.uint64))
    return int(keys[count]) if count else 0


def audit_key(candidate_id: str, seed: int) -> int:
    """A pseudo-random 64-bit number of an id: who is audited hangs on nothing else (splitmix64's finaliser)."""
    mask = (1 << 64) - 1
    value = (int(candidate_id, 16) + (seed + 1) * 0x9E3779B97F4A7C15) & mask
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & mask
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & mask
    return value ^ (value >> 31)
