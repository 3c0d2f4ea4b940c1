"""One unit passing through one operator: decoded, scored filter by filter, and what was learnt of it written once."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pyarrow as pa

from common.decode import Picture, Undecodable, decode, memory_of
from curation.cutting.judge import judge
from curation.filters.base import MetadataFilter
from curation.filters.evidence import Evidence
from curation.run_directory.schemas import IMAGES
from curation.run_directory.scores import scores_table, write_unit
from curation.run_directory.unit_bytes import UnitBytes
from curation.run_directory.units import UnitScores
from curation.scoring.allowance import Allowance
from curation.scoring.batch import empty_row
from curation.scoring.careful import DECODER
from curation.scoring.spending import Spending

MODELS = 500e6  # bytes of an actor that its modules and models take; the rest of `score.memory_gb` is for pictures
LEAST_PICTURES = 100e6  # bytes for pictures all the same


class UnitInWork:
    """One unit passing through one operator."""

    def __init__(self, operator: Any, known: UnitScores, data: UnitBytes, order: list[str], audit_lane: np.ndarray):
        self.operator, self.known, self.bytes, self.order, self.audited = operator, known, data, order, audit_lane
        self.spent = Spending()
        self.allowance = Allowance(max(1e9 * operator.recipe.score.memory_gb - MODELS, LEAST_PICTURES))
        self.turns = {row: turn for turn, row in enumerate(data.in_tar_order)}
        self.pictures: dict[int, Picture] = {}  # of the batch
        self.images: dict[str, dict[str, Any]] = {}
        self.scored: dict[str, list[int]] = {name: [] for name in operator.names}

    def take(self, row: int, picture: Picture | None, facts: dict[str, Any], seconds: float, size: int) -> None:
        """One more image; when `size` images are together, score them. The first time an image is seen its facts are noted."""
        is_new = self.known.images[row] is None
        self.spent.note(DECODER, int(is_new and picture is not None), seconds)
        if is_new:
            self.known.note_image(row, facts)
            self.images[facts["id"]] = facts
        if picture is not None:
            self.pictures[row] = picture
        if len(self.pictures) >= size:
            self.score_batch()

    def make_room(self) -> None:
        """Where the next picture waits for memory that the batch holds, the batch is scored before it is full."""
        if self.pictures and self.allowance.is_short:
            self.score_batch()

    def score_batch(self) -> None:
        """Score what was taken; what is rejected is dropped on the way."""
        for name in self.order:
            self._score(name, self.pictures)
        self.allowance.give_back(sum(picture.rgb.nbytes for picture in self.pictures.values()))
        self.pictures = {}

    def decoded(self, row: int) -> tuple[Picture | None, dict[str, Any], float]:
        """The picture, or None, its facts, and seconds of decoding. Threads may do it ahead, as far as memory goes."""
        data = self.bytes.read(row)
        needed = memory_of(data)
        if not self.operator.threads.are_there and not self.allowance.has(needed):
            self.score_batch()
        self.allowance.take(self.turns[row], needed)
        picture = None
        try:
            picture, facts, seconds = self._decoded(row, data)
        finally:  # of what decoding took the picture is left
            self.allowance.give_back(needed - (picture.rgb.nbytes if picture is not None else 0))
        return picture, facts, seconds

    def _decoded(self, row: int, data: bytes) -> tuple[Picture | None, dict[str, Any], float]:
        began = time.perf_counter()
        facts: dict[str, Any] = dict.fromkeys(IMAGES.names)
        facts.update(id=self.known.ids[row], sha256=self.known.fetched["sha256"][row].as_py())
        try:
            if how := self.operator.blame.get((self.known.ids[row], DECODER)):
                raise Undecodable(f"{how}_decoder", "a process that decoded it was ended twice")
            with self.operator.watch(DECODER, [self.known.ids[row]]):
                picture = decode(data, self.operator.recipe.images)
            facts.update(
                status="ok",
                format=picture.source_format,
                width=picture.width,
                height=picture.height,
                exif_orientation=picture.orientation,
                detail="; ".join(picture.notes) or None,
            )
        except Undecodable as error:
            picture = None
            facts.update(status=error.reason, detail=str(error))
        if self.known.images[row] is None:
            facts["phash"] = picture.phash() if picture is not None else None
        return picture, facts, time.perf_counter() - began

    def _open(self, rows: list[int]) -> list[int]:
        """Those of `rows` that no evaluated check rejects, and those that are audited."""
        if not rows:
            return []
        take = pa.array(rows, pa.int64())
        evidence = {
            name: Evidence(item.table.take(take), item.seen[rows]) for name, item in self.known.evidence.items()
        }
        boxes = self.known.boxes.take(rows)
        judged = judge(evidence, self.operator.filters, self.operator.recipe.thresholds, boxes)
        return [row for row, gone in zip(rows, judged.rejected & ~self.audited[rows], strict=True) if not gone]

    def _score(self, name: str, pictures: dict[int, Picture]) -> None:
        item = self.operator.filters[name]
        evidence = self.known.evidence[name]
        rows = [row for row in self._open(sorted(pictures)) if not evidence.seen[row]]
        rows = [row for row in rows if all(self.known.evidence[need].seen[row] for need in item.needs)]
        if not rows:
            return
        needed = {need: self.known.evidence[need].table.take(pa.array(rows)) for need in item.needs}
        started = time.perf_counter()
        if isinstance(item, MetadataFilter):
            fields, errors = item.score_metadata(self.known.candidates.take(pa.array(rows)), needed), [None] * len(rows)
        else:
            ids = [self.known.ids[row] for row in rows]
            if how := self.operator.blame.get((ids[0], name)):  # a child has batches of one
                fields, errors = empty_row(item), [f"{how} a process that ran it, twice"]
            else:
                with self.operator.watch(name, ids):
                    fields, errors = self.operator.threads.score(item, [pictures[row] for row in rows], needed)
        spent = time.perf_counter() - started
        self.spent.note(name, len(rows), spent)
        table = pa.table(
            {
                "id": pa.array([self.known.ids[row] for row in rows], pa.string()),
                **{field.name: fields[field.name] for field in item.columns},
                "error": pa.array(errors, pa.string()),
            }
        ).cast(item.schema)
        self.scored[name] += rows
        self.known.evidence[name] = _merged(evidence, table, rows)
        passing = item.verdict(table, getattr(self.operator.recipe.thresholds, name)) == 1
        self.operator.costs.note(name, spent, passing, self.audited[rows])

    def write(self) -> str:
        """Store all that was learnt, whole; the file's path."""
        place = {text: row for row, text in enumerate(self.known.ids)}
        rows = sorted({*(place[text] for text in self.images), *(row for rows in self.scored.values() for row in rows)})
        new = {}
        for name, scored in self.scored.items():
            if scored:
                table = self.known.evidence[name].table.take(pa.array(rows))
                new[self.operator.filters[name].column] = Evidence(table, np.isin(rows, scored))
        table = scores_table([self.known.ids[row] for row in rows], self.images, new)
        return write_unit(self.operator.run, "scores", self.known.name, table)


def _merged(evidence: Evidence, table: pa.Table, rows: list[int]) -> Evidence:
    """Evidence with new scores put into their rows."""
    both = pa.concat_tables([evidence.table, table])
    take = np.arange(evidence.table.num_rows)
    take[rows] = evidence.table.num_rows + np.arange(len(rows))
    seen = evidence.seen.copy()
    seen[rows] = True
    return Evidence(both.take(pa.array(take)).combine_chunks(), seen)
