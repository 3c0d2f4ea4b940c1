"""One number an image and check, out of the evidence: what histograms show and thresholds are compared with.

The whole of a small run is read; of a large one as many units (fetched parts, whose ids are hashes) as hold about
`limit` images, evenly spaced. Counts of the funnel never come from here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from curation.filters.base import Filter, Measure
from curation.filters.evidence import missing
from curation.filters.registry import check_class
from curation.ledger.layout import evidence_files, read_evidence
from curation.ledger.model import Ledger
from curation.ledger.tables import name_of
from curation.run_directory.candidates import id_numbers
from curation.run_directory.scores import description_file

LIMIT = 200_000  # images


@dataclass
class MeasuredImages(Measure):
    """A filter's measure with its value for each image that was scored by the filter `check`.

    `without`: images that were scored and have no value here (no face to measure, say): no threshold rejects them.
    """

    check: str = ""
    ids: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))
    values: np.ndarray = field(default_factory=lambda: np.zeros(0))
    without: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))

    def passes(self) -> np.ndarray:
        """bool (values,): at or beyond the threshold."""
        assert self.threshold is not None
        # evidence is float32: a threshold has to be compared as one, or 0.1 is not 0.1
        limit = np.float64(np.float32(self.threshold))
        return self.values >= limit if self.above else self.values <= limit

    def show(self, value: float) -> str:
        if self.scale == "count":
            return f"{value:.0f}"
        return f"{100 * value:.3g}%" if self.unit.startswith("share") else f"{value:.3g}"


def filters_of(ledger: Ledger) -> dict[str, Filter]:
    """The filters of the cut, as their scores describe them, in the paper's order. No model file is needed."""
    filters = {}
    for name in ledger.checks:
        check = check_class(name)
        if check is not None and issubclass(check, Filter):
            path = description_file(f"{name}-{ledger.fingerprints.get(name)}")
            described = ledger.run.read_json(path, ("settings",)) if ledger.run.exists(path) else {}
            try:
                filters[name] = check.of_description(described)
            except ValidationError as error:
                raise ledger.run.damaged(path, "describes another filter") from error
    return filters


@dataclass
class Scores:
    measures: list[MeasuredImages]
    seen: int  # images of the units that were read
    of: int

    @property
    def sampled(self) -> bool:
        return self.seen < self.of

    def __getitem__(self, key: str) -> MeasuredImages:
        return next(measured for measured in self.measures if measured.key == key)


def read_scores(ledger: Ledger, limit: int = LIMIT) -> Scores:
    """All measures with the values of the images that were taken."""
    filters = filters_of(ledger)
    mine = {
        name: [
            MeasuredImages(**vars(measure), check=name) for measure in item.measures(getattr(ledger.thresholds, name))
        ]
        for name, item in filters.items()
    }
    measures = [measured for group in mine.values() for measured in group]
    if ledger.snapshot is None:
        return Scores(measures, 0, 0)
    units, seen = _units(ledger, limit)
    for name, item in filters.items():
        parts: list[list[np.ndarray]] = []
        for table in evidence_tables(ledger, name, units):
            unknown = missing(table, item.columns[0].name)
            columns = [measured.value_of(table).astype(np.float64) for measured in mine[name]]
            parts.append([id_numbers(table["id"]), unknown, *(np.where(unknown, np.nan, column) for column in columns)])
        if not parts:
            continue
        ids, unknown, *columns = (np.concatenate(column) for column in zip(*parts, strict=True))
        ids, first = np.unique(ids, return_index=True)
        taken = ledger.tables.contains("taken", ids)
        for measured, values in zip(mine[name], columns, strict=True):
            known = taken & np.isfinite(values[first])
            measured.ids, measured.values = ids[known], values[first][known]
            measured.without = ids[taken & ~known & ~unknown[first]]
    return Scores(measures, seen, ledger.tables.size("taken"))


def _units(ledger: Ledger, limit: int) -> tuple[set[str], int]:
    units = ledger.tables.rows("SELECT unit, count(*) FROM taken GROUP BY unit ORDER BY min(id)")
    step = max(1, -(-ledger.tables.size("taken") // limit))
    chosen = units[::step]
    return {unit for unit, _ in chosen}, sum(images for _, images in chosen)


def evidence_tables(ledger: Ledger, check: str, units: set[str]) -> Iterator[pa.Table]:
    """One filter's evidence of these units' images, under this cut's fingerprint."""
    column = f"{check}-{ledger.fingerprints.get(check)}"
    files = evidence_files(ledger.run, column)
    return read_evidence(ledger.run, [path for unit in sorted(units) for path in files.get(unit, ())], column)


# -- what a threshold does --------------------------------------------------------------------------------------


def passes_the_rest(measure: MeasuredImages, scores: Scores, ledger: Ledger) -> np.ndarray:
    """int8 (values,): 1 the image passes everything but this measure, 0 it fails something else, -1 not known."""
    if not ledger.has("verdicts"):
        return np.full(len(measure.ids), -1, dtype=np.int8)
    rest = ", ".join(f'"{check}"' for check in ledger.checks if check != measure.check)
    state = f"CASE WHEN 0 IN ({rest}) THEN 0 WHEN id IS NULL OR -1 IN ({rest}) THEN -1 ELSE 1 END"
    (states,) = ledger.tables.look_up(measure.ids, state, "verdicts")
    rejected = ledger.tables.contains("no_identity", measure.ids)
    for sibling in scores.measures:
        if sibling.check == measure.check and sibling is not measure and sibling.threshold is not None:
            rejected |= np.isin(measure.ids, sibling.ids[~sibling.passes()])
    return np.where(rejected, 0, states).astype(np.int8)


def check_passes(measure: MeasuredImages, ledger: Ledger) -> np.ndarray:
    """bool (values,): the image does not fail the check that the measure belongs to."""
    if not ledger.has("verdicts"):
        return np.ones(len(measure.ids), dtype=bool)
    return ledger.tables.look_up(measure.ids, f'coalesce("{measure.check}" != 0, true)', "verdicts")[0]


def closest(measure: MeasuredImages, number: int = 12) -> tuple[list[int], list[int]]:
    """Indices of the closest values on the passing and on the failing side, closest first, ties by id."""
    if measure.threshold is None:
        return [], []
    passes = measure.passes()
    if measure.scale == "log":
        with np.errstate(divide="ignore"):
            distance = np.abs(np.log(measure.values) - np.log(max(measure.threshold, 1e-9)))
    else:
        distance = np.abs(measure.values - measure.threshold)
    order = np.lexsort((measure.ids, distance))
    return order[passes[order]][:number].tolist(), order[~passes[order]][:number].tolist()


def evidence_of(ledger: Ledger, wanted: dict[str, set[int]]) -> dict[tuple[str, int], dict[str, Any]]:
    """{(check, id): its row of evidence} for the few images that are drawn."""
    records: dict[tuple[str, int], dict[str, Any]] = {}
    for check, ids in wanted.items():
        units = ledger.tables.rows("SELECT DISTINCT unit FROM taken WHERE id IN (SELECT unnest(?))", list(ids))
        names = pa.array([name_of(number) for number in ids], pa.string())
        for table in evidence_tables(ledger, check, {unit for (unit,) in units}):
            for record in table.filter(pc.is_in(table["id"], value_set=names)).to_pylist():
                records[check, int(record["id"], 16)] = record
    return records
