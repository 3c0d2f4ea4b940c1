"""One number an image and check, out of the evidence: what histograms show and thresholds are compared with.

The whole of a small run is read; of a large one as many units (fetched parts, whose ids are hashes) as hold about
`limit` images, evenly spaced. Counts of the funnel never come from here.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from curation.filters.base import flattened, missing
from curation.filters.faces import prominent
from curation.filters.text import Text
from curation.ledger.model import Ledger
from curation.ledger.tables import CHECKS, among, ids_of, name_of, rows_of
from curation.recipe.recipe import Thresholds

LIMIT = 200_000  # images


@dataclass
class Measure:
    """A scalar of every image that a filter scored. Passes at or above `threshold` (`above`), or at or below it."""

    key: str
    check: str
    title: str
    unit: str
    scale: str  # "log", "linear", "count"
    threshold: float | None = None
    above: bool = True
    decides: bool = True  # moving this threshold alone moves the verdict the same way
    note: str = ""
    ids: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))
    values: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def passes(self) -> np.ndarray:
        assert self.threshold is not None
        # evidence is float32: a threshold has to be compared as one, or 0.1 is not 0.1
        limit = np.float64(np.float32(self.threshold))
        return self.values >= limit if self.above else self.values <= limit

    def show(self, value: float) -> str:
        if self.scale == "count":
            return f"{value:.0f}"
        return f"{100 * value:.3g}%" if self.unit.startswith("share") else f"{value:.3g}"


def measures_of(thresholds: Thresholds, detector: str) -> list[Measure]:
    """Every measure, without values, in the paper's order."""
    text, faces = thresholds.text, thresholds.faces
    confident = faces.min_confidence.get(detector, 0.5)
    return [
        Measure("std", "grayscale", "Colour", "std over R, G, B", "log", thresholds.grayscale.min_std),
        Measure("area", "text", "Text: area covered", "share of the image", "log", text.max_area, above=False),
        Measure("boxes", "text", "Text: boxes", "boxes", "count", text.max_boxes, above=False),
        Measure("prominent", "faces", "Prominent faces", "faces", "count", None, note=f"wanted: {faces.count}"),
        Measure("best", "faces", "Score of the best face", "score", "linear", confident, decides=False),
        Measure(
            "neighbors", "anime", "Drawn face", "neighbours of the largest hit", "count",
            thresholds.anime.min_neighbors - 1, above=False,
        ),
    ]  # fmt: skip


@dataclass
class Scores:
    measures: list[Measure]
    seen: int  # images of the units that were read
    of: int

    @property
    def sampled(self) -> bool:
        return self.seen < self.of

    def __getitem__(self, key: str) -> Measure:
        return next(measure for measure in self.measures if measure.key == key)


def read_scores(ledger: Ledger, limit: int = LIMIT) -> Scores:
    """All measures with the values of the images that were taken."""
    measures = measures_of(ledger.thresholds, ledger.detector)
    if ledger.snapshot is None:
        return Scores(measures, 0, 0)
    units, seen = _units(ledger, limit)
    for check in ("grayscale", "text", "faces", "anime"):
        mine = [measure for measure in measures if measure.check == check]
        parts: list[list[np.ndarray]] = []
        for unit in sorted(units):
            for path in score_files(ledger, check).get(unit, ()):
                table = ledger.run.read_table(path)
                parts.append([ids_of(table, path), *_values(check, table, ledger)])
        if not parts:
            continue
        ids, *columns = (np.concatenate(column) for column in zip(*parts, strict=True))
        ids, first = np.unique(ids, return_index=True)
        taken = among(ids, ledger.snapshot.ids)
        for measure, values in zip(mine, columns, strict=True):
            known = taken & np.isfinite(values[first])
            measure.ids, measure.values = ids[known], values[first][known]
    return Scores(measures, seen, len(ledger.snapshot.ids))


def _units(ledger: Ledger, limit: int) -> tuple[set[str], int]:
    names, sizes = ledger.snapshot.units.words, np.bincount(ledger.snapshot.unit, minlength=1)
    step = max(1, -(-int(sizes.sum()) // limit))
    chosen = range(0, len(names), step)
    return {names[index] for index in chosen}, int(sum(sizes[index] for index in chosen))


def score_files(ledger: Ledger, check: str) -> dict[str, list[str]]:
    """{unit: its files} of one filter's evidence under this cut's fingerprint."""
    fingerprint = ledger.fingerprints.get(check)
    found: dict[str, list[str]] = defaultdict(list)
    if fingerprint:
        for path in ledger.run.glob(f"scores/{check}-{fingerprint}/*.parquet"):
            found["-".join(path.rsplit("/", 1)[1].removesuffix(".parquet").split("-")[:2])].append(path)
    return found


def _values(check: str, table: pa.Table, ledger: Ledger) -> list[np.ndarray]:
    """float64 (rows,) for each measure of the check; NaN where the filter could not score."""
    rows, thresholds = len(table), ledger.thresholds
    if check == "grayscale":
        return [table["std"].to_numpy(zero_copy_only=False).astype(np.float64)]
    unknown = missing(table, "hits" if check == "anime" else "boxes")
    if check == "text":
        columns = list(Text.measure(table, thresholds.text.min_confidence, thresholds.text.max_line))
    elif check == "faces":
        where, _ = prominent(table, thresholds.faces, ledger.detector)
        columns = [np.bincount(where, minlength=rows), _largest(table, "boxes", "score")]
    else:
        columns = [_largest(table, "hits", "neighbors")]
    return [np.where(unknown, np.nan, column.astype(np.float64)) for column in columns]


def _largest(table: pa.Table, column: str, name: str) -> np.ndarray:
    rows, values = flattened(table, column, name)
    best = np.zeros(len(table))
    np.maximum.at(best, rows, values)
    return best


# -- what a threshold does --------------------------------------------------------------------------------------


def others(measure: Measure, scores: Scores, ledger: Ledger) -> np.ndarray:
    """int8 (values,): 1 the image passes everything but this measure, 0 it fails something else, -1 not known."""
    verdicts = ledger.verdicts
    if verdicts is None:
        return np.full(len(measure.ids), -1, dtype=np.int8)
    row = rows_of(verdicts.ids, measure.ids)
    rest = verdicts.checks[row][:, [check != measure.check for check in CHECKS]]
    state = np.where((rest == 0).any(axis=1), 0, np.where((rest == -1).any(axis=1), -1, 1)).astype(np.int8)
    gone = among(measure.ids, ledger.no_identity)
    for sibling in scores.measures:
        if sibling.check == measure.check and sibling is not measure and sibling.threshold is not None:
            gone |= among(measure.ids, sibling.ids[~sibling.passes()])
    return np.where(gone, 0, np.where(row < 0, -1, state)).astype(np.int8)


def nearest(measure: Measure, number: int = 12) -> tuple[list[int], list[int]]:
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


def evidence_of(ledger: Ledger, wanted: dict[str, set[int]]) -> dict[tuple[str, int], Any]:
    """{(check, id): its evidence as Python values} for the few images that are drawn."""
    found: dict[tuple[str, int], Any] = {}
    if ledger.snapshot is None:
        return found
    for check, ids in wanted.items():
        row = rows_of(ledger.snapshot.ids, np.array(sorted(ids), dtype=np.uint64))
        units = {ledger.snapshot.units.words[ledger.snapshot.unit[index]] for index in row if index >= 0}
        files = score_files(ledger, check)
        names = {name_of(number) for number in ids}
        for unit in sorted(units):
            for path in files.get(unit, ()):
                table = ledger.run.read_table(path)
                mask = np.isin(np.array(table["id"].to_pylist()), list(names))
                column = "hits" if check == "anime" else "boxes"
                if column in table.column_names:
                    for record in table.filter(pa.array(mask)).select(["id", column]).to_pylist():
                        found[check, int(record["id"], 16)] = record[column] or []
    return found
