"""What the filters say of a photo, for a person who asks after having looked: verdicts, reasons, and what was seen."""

from __future__ import annotations

import threading
from typing import Any

import pyarrow as pa

from common.decode import decode
from common.progress import say
from curation.calibration.labels import score_picture
from curation.filters.base import Filter, MetadataFilter
from curation.filters.evidence import FAIL, PASS
from curation.recipe.recipe import Recipe

WORDS = {PASS: "keeps it", FAIL: "rejects it"}


class Opinions:
    """Runs the recipe's filters, with its thresholds, on one photo at a time; models are loaded when first asked for."""

    def __init__(self, recipe: Recipe):
        self._recipe = recipe
        self._filters: dict[str, Filter] | None = None
        self._alone = threading.Lock()

    def of(self, data: bytes) -> list[dict[str, Any]]:
        """One entry a filter: `name`, `says`, `why`, `evidence` as text, `outlines` as corners in shares of the picture.

        Raises:
            Undecodable: the run would not take this photo.
            WeightError: a filter's model file is not here.
        """
        with self._alone:
            if self._filters is None:
                say("label", "opening the filters' models; this once")
                opened = self._recipe.open_filters()
                self._filters = {n: item for n, item in opened.items() if not isinstance(item, MetadataFilter)}
            picture = decode(data, self._recipe.images)
            rows, size = score_picture(picture, self._filters), (picture.width, picture.height)
            return [self._opinion(item, rows[name], size) for name, item in self._filters.items()]

    def _opinion(self, item: Filter, row: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
        thresholds = getattr(self._recipe.thresholds, item.name)
        evidence = pa.Table.from_pylist([{"id": "", **row}], schema=item.schema)
        verdict = int(item.verdict(evidence, thresholds)[0])
        says = WORDS.get(verdict, "cannot say")
        why = item.rejection if verdict == FAIL else row["error"] or ""
        shapes = item.outlines(row, size, thresholds) if not row["error"] else []
        measured = [
            f"{measure.title}: {float(measure.value_of(evidence)[0]):.3g} {measure.unit}"
            for measure in item.measures(thresholds)
            if verdict in WORDS
        ]
        return {
            "name": item.name,
            "says": says,
            "why": why,
            "evidence": measured,
            "outlines": [{"corners": [list(corner) for corner in shape.corners], "counts": shape.counts} for shape in shapes],
        }  # fmt: skip
