"""Units: the images of one fetched part of one round, the grain in which scores are made and stored."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from common.decode import upright_boxes
from curation.filters.base import Filter
from curation.filters.caption_box import CaptionBoxes
from curation.filters.evidence import Evidence, one_array
from curation.run_directory.attempts import images_file
from curation.run_directory.candidates import id_numbers
from curation.run_directory.run import Run
from curation.run_directory.schemas import CANDIDATE, FETCHED, IMAGES
from curation.run_directory.scores import evidence_of, image_facts, read_scores, score_files

TURN = ("exif_orientation", "width", "height")
FACTS = ("status", *TURN)  # of a decode, those that verdicts hang on


@dataclass(frozen=True)
class Unit:
    """A unit as the driver knows it: ten thousand units of a thousand images have to fit there, hence ids as numbers."""

    name: str
    tar: str  # relative to the run
    numbers: bytes  # uint64 (images,), ascending: the ids of its images in the snapshot
    scores: tuple[str, ...] = ()  # the files that have scores of it, when the run was listed

    def __len__(self) -> int:
        return len(self.numbers) // 8

    @cached_property
    def ids(self) -> list[str]:
        return [f"{number:016x}" for number in np.frombuffer(self.numbers, np.uint64).tolist()]

    def as_row(self) -> dict[str, Any]:
        """As a row of Ray Data's."""
        return dataclasses.asdict(self) | {"scores": json.dumps(self.scores)}

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Unit:
        return cls(row["name"], row["tar"], row["numbers"], tuple(json.loads(row["scores"])))


def units_of(run: Run, snapshot: pa.Table) -> list[Unit]:
    """The units of a snapshot, which is in id order, by name, each with the files of its scores."""
    scored = score_files(run)
    numbers, codes, names, tars = id_numbers(snapshot["id"]), *coded(snapshot["unit"]), snapshot["tar"]
    order = np.argsort(codes, kind="stable")  # the snapshot is in id order
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1)).tolist()
    units = []
    for start, stop in zip(starts, [*starts[1:], len(order)], strict=True):
        rows = order[start:stop]
        name = names[codes[rows[0]]]
        units.append(Unit(name, tars[rows[0]].as_py(), numbers[rows].tobytes(), tuple(scored.get(name, ()))))
    return sorted(units, key=lambda unit: unit.name)


def coded(column: pa.ChunkedArray) -> tuple[np.ndarray, list[str]]:
    """A text column as (rows,) indices into the list of its values."""
    dictionary = pa.types.is_dictionary(column.type)
    coded = (column if dictionary else column.dictionary_encode()).unify_dictionaries().combine_chunks()
    coded = coded.chunk(0) if isinstance(coded, pa.ChunkedArray) else coded
    return coded.indices.to_numpy(), coded.dictionary.to_pylist()


def fetched_images(run: Run, unit: Unit) -> pa.Table:
    """The rows of a unit's images in `fetched/ROUND/images/`, in the order of its ids.

    Raises:
        DamagedFile: some are not there.
    """
    path = images_file(unit.tar)
    table = run.read_table(path, FETCHED.names)
    rows = pc.index_in(pa.array(unit.ids, pa.string()), value_set=table["id"].combine_chunks())
    if rows.null_count:
        raise run.damaged(path, f"lacks {rows.null_count:,} of its images")
    return table.take(rows).combine_chunks()


class UnitScores:
    """Everything that is known of a unit's images, row for row in the order of its ids: two files are read, and one more
    for each time that it was scored."""

    def __init__(self, run: Run, unit: Unit, filters: Mapping[str, Filter]):
        self.unit, self.ids, self.name = unit, unit.ids, unit.name
        self.fetched = fetched_images(run, unit)
        stored = read_scores(run, unit.scores, filters.values())
        known = {row["id"]: row for row in image_facts(stored).to_pylist()}
        self.images: list[dict[str, Any] | None] = [known.get(text) for text in self.ids]
        self.evidence = {
            name: Evidence.align(item.schema, self.ids, evidence_of(stored, item)) for name, item in filters.items()
        }
        facts = pa.Table.from_pylist([image or {} for image in self.images], schema=IMAGES)
        self._turns = turns_of({name: one_array(facts[name]) for name in FACTS})

    @property
    def candidates(self) -> pa.Table:
        """What the sources say of the images."""
        return self.fetched.select(CANDIDATE.names)

    @property
    def boxes(self) -> CaptionBoxes:
        """FaceCaption's boxes of the images that were decoded."""
        return caption_boxes(one_array(self.fetched["faces"]), self._turns)

    @property
    def status(self) -> list[str | None]:
        """Of each image: `ok`, why it could not be decoded, or None where that was not tried."""
        return [image["status"] if image else None for image in self.images]

    def note_image(self, row: int, facts: dict[str, Any]) -> None:
        """Add what the decoding of an image showed: the columns of `IMAGES`."""
        assert facts.keys() == set(IMAGES.names)
        self.images[row] = facts
        self._turns[row] = [facts[name] or 0 for name in TURN]


def turns_of(facts: Mapping[str, pa.Array]) -> np.ndarray:
    """int64 (rows, 3): of each image orientation, width and height; zeros before the decode, and where it failed."""
    columns = [facts[name].cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False) for name in TURN]
    return np.stack(columns, axis=1)


def caption_boxes(faces: pa.Array, turns: np.ndarray) -> CaptionBoxes:
    """FaceCaption's boxes, which live in the stored frame, turned into the upright one; none before the decode.

    `faces`: as candidates have them, of which the boxes count.
    """
    corners = faces.flatten().field("box").flatten().to_numpy(zero_copy_only=False).astype(np.float64).reshape(-1, 4)
    rows = pc.list_parent_indices(faces).to_numpy()
    known = turns[rows, 1] > 0
    rows, corners = rows[known], corners[known]
    return CaptionBoxes(rows, upright_boxes(corners, *turns[rows].T))
