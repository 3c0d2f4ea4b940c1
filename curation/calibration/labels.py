"""Photos that a person has labelled, with every filter's evidence beside the labels."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from common.decode import Picture, Undecodable, decode
from common.hashing import sha256_of_bytes
from common.paths import open_place
from common.pinned_files.packages import cache_dir
from common.progress import ProgressBar, say
from common.storage import Storage
from curation.calibration.label_table import LabelError, nearest
from curation.filters.base import Filter
from curation.recipe.recipe import Recipe
from curation.run_directory.run import Run
from curation.run_directory.snapshot import read_snapshot, require_counts
from curation.sample.photos import photos
from curation.scoring.batch import score_each

VARIANT = "variant of"  # forty labelled files are edits of one portrait: they would outvote everything else
UNDECODABLE = "undecodable"
Read = Callable[[], bytes]


@dataclass
class Labelled:
    """Photos with a person's answers and every filter's evidence, row for row."""

    labels: list[dict[str, str]]
    evidence: dict[str, pa.Table]

    def truth(self, item: Filter) -> tuple[np.ndarray, np.ndarray]:
        """(should be rejected, counts at all) for a filter; bool (rows,) each."""
        answers = [item.should_reject(label) for label in self.labels]
        return np.array([bool(a) for a in answers]), np.array([a is not None for a in answers])

    @property
    def choosing(self) -> np.ndarray:
        """bool (rows,): the half that thresholds are chosen on."""
        return np.array([half_of(label) == "choose" for label in self.labels])

    @property
    def counts(self) -> np.ndarray:
        """bool (rows,): which are no edit, in the sample itself, of another of its photos."""
        return np.array([not label.get("note", "").startswith(VARIANT) for label in self.labels])

    def where(self, column: str, value: str) -> np.ndarray:
        """bool (rows,): where that is the label."""
        return np.array([label.get(column, "") == value for label in self.labels])


def motif_of(label: Mapping[str, str]) -> str:
    """What the photo shows; a photo without a word about it is a motif of its own."""
    return label.get("motif") or label["sha256"]


def half_of(label: Mapping[str, str]) -> str:
    """Which half a photo is in: as its label says, else by its motif's hash."""
    motif = label.get("motif")
    digest = sha256_of_bytes(motif.encode()) if motif else label["sha256"]
    return label.get("half") or ("report" if int(digest[-1], 16) % 2 else "choose")


# -- where the photos are --------------------------------------------------------------------------------------------


def photos_of_folder(folder: str | os.PathLike[str], table: str | os.PathLike[str]) -> dict[str, Read]:
    """How to read each file of a folder and its sub-folders, by its path in the folder.

    Hidden files are no photos, nor is the `table` of labels.
    """
    storage = Storage(folder)
    if not storage.is_folder():
        raise LabelError(f"{folder}: no such folder of photos: correct --photos")
    table = open_place(table)[1]
    return {
        name: partial(storage.read_bytes, name)
        for name in storage.files()
        if "/." not in f"/{name}" and storage.path(name) != table
    }


def photos_of_run(run: Run) -> dict[str, Read]:
    """How to read each image that a run took, by its id."""
    counts = require_counts(run)
    rows = read_snapshot(run, counts, ["id", "tar", "offset", "size"]).to_pylist()
    return {row["id"]: partial(run.read_bytes, row["tar"], row["offset"], row["size"]) for row in rows}


def photos_of_sample() -> dict[str, Read]:
    """How to read each photo of the sample, by the first 16 hex digits of its sha256."""
    return {photo.sha256[:16]: photo.path.read_bytes for photo in photos()}


def find_photos(labels: list[dict[str, str]], name: str, there: Mapping[str, Read], place: str) -> list[Read]:
    """How to read the photo of each label. What has no label is said, and counted.

    `name`: the labels' column; `place`: where the photos are, for messages.

    Raises:
        LabelError: a label of a photo that is not there.
    """
    # macOS takes letters with accents apart, spreadsheets put them together
    spelled = {unicodedata.normalize("NFC", key): key for key in there} | {key: key for key in there}
    keys = [spelled.get(label[name]) or spelled.get(unicodedata.normalize("NFC", label[name])) for label in labels]
    lost = [label for label, key in zip(labels, keys, strict=True) if key is None]
    if lost:
        first, more = lost[0], f" (and {len(lost) - 1:,} others)" if len(lost) > 1 else ""
        raise LabelError(
            f"{first['where']}: {name}: {first[name]!r} is not in {place}{more}{nearest(first[name], spelled)} Correct the "
            f"table, or take the row out; {name} is {_IS[name]}"
        )
    if unlabelled := sorted(set(there) - set(keys)):
        say("labels", f"{len(unlabelled):,} of {place} have no label and do not count: {listed(unlabelled)}")
    return [there[key] for key in keys]


_IS = {
    "file": "a path in the folder, with its ending",
    "id": "an id of the run's tables",
    "sha256": "the first 16 hex digits",
}


def listed(names: list[str]) -> str:
    """The first three, and whether there are more."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


# -- scoring ---------------------------------------------------------------------------------------------------------


def score_photos(
    labels: list[dict[str, str]], reads: list[Read], name: str, filters: dict[str, Filter], recipe: Recipe
) -> Labelled:
    """Evidence of every labelled photo that can be decoded; of the others it is said why they do not count.

    In this process, one photo after the other. Evidence is kept in the cache by fingerprint, so a second call is quick.

    Raises:
        LabelError: none of them can be decoded.
    """
    cache = Storage(cache_dir() / "calibration")
    scored = {item: _cached(cache, filters[item]) for item in filters}
    fresh = False
    with ProgressBar("labels", len(labels), "photos") as progress:
        for label, read in zip(labels, reads, strict=True):
            data = read()
            label["sha256"] = key = sha256_of_bytes(data)[:16]
            if lacking := [item for item in filters if key not in scored[item]]:
                fresh = True
                for item, row in _score(data, _with_needs(lacking, filters), recipe).items():
                    scored[item][key] = {"id": key, **row}
            progress.advance(1)
    tables = {}
    for item, rows in scored.items():
        if fresh:
            kept = [row for row in rows.values() if row["error"] is None or _undecodable(row["error"])]
            cache.write_table(_file(filters[item]), pa.Table.from_pylist(kept, schema=filters[item].schema))
        tables[item] = [rows[label["sha256"]] for label in labels]
    errors = [row["error"] or "" for row in next(iter(tables.values()))]
    gone = [f"{label[name]} ({error})" for label, error in zip(labels, errors, strict=True) if _undecodable(error)]
    if gone:
        say("labels", f"{len(gone):,} of the labelled cannot be decoded and do not count: {listed(gone)}")
    if len(gone) == len(labels):
        raise LabelError(f"none of the {len(labels):,} labelled photos can be decoded: {listed(gone)}")
    decoded = [row for row, error in enumerate(errors) if not _undecodable(error)]
    evidence = {
        item: pa.Table.from_pylist([rows[row] for row in decoded], schema=filters[item].schema)
        for item, rows in tables.items()
    }
    return Labelled([labels[row] for row in decoded], evidence)


def _undecodable(error: str) -> bool:
    return error.startswith(UNDECODABLE)


def _with_needs(names: list[str], filters: dict[str, Filter]) -> dict[str, Filter]:
    """Those filters, and what they need, in the order of all."""
    wanted = {need for name in names for need in filters[name].needs} | set(names)
    return {name: item for name, item in filters.items() if name in wanted}


def _score(data: bytes, filters: dict[str, Filter], recipe: Recipe) -> dict[str, dict[str, Any]]:
    """One row a filter."""
    try:
        picture = decode(data, recipe.images)
    except Undecodable as error:
        nothing = {item.name: dict.fromkeys(field.name for field in item.columns) for item in filters.values()}
        return {name: {**row, "error": f"{UNDECODABLE}: {error.reason}"} for name, row in nothing.items()}
    return score_picture(picture, filters)


def score_picture(picture: Picture, filters: dict[str, Filter]) -> dict[str, dict[str, Any]]:
    """One row a filter: its evidence, and `error`, null where there is none."""
    tables: dict[str, pa.Table] = {}
    rows = {}
    for name, item in filters.items():
        tables[name], (error,) = score_each(item, [picture], {need: tables[need] for need in item.needs})
        rows[name] = {**tables[name].to_pylist()[0], "error": error}
    return rows


def _file(item: Filter) -> str:
    return f"{item.name}-{item.fingerprint}.parquet"


def _cached(cache: Storage, item: Filter) -> dict[str, dict[str, Any]]:
    rows = cache.read_table(_file(item)).to_pylist() if cache.exists(_file(item)) else []
    return {row["id"]: row for row in rows}
