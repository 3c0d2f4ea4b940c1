"""Photos that a person has labelled, with every filter's evidence beside the labels."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from common.decode import Undecodable, decode
from common.hashing import sha256_of_file
from common.pinned_files.packages import cache_dir
from common.progress import ProgressBar
from curation.filters.base import Filter
from curation.recipe.recipe import Recipe

VARIANT = "variant of"  # forty labelled files are edits of one portrait: they would outvote everything else


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
        return np.array([int(label["sha256"][-1], 16) % 2 == 0 for label in self.labels])


def load_labels(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def anime_labels(folder: Path) -> tuple[list[dict[str, str]], dict[str, Path]]:
    """Every picture of a folder, labelled as anime: the sample itself has only two."""
    files = {sha256_of_file(path)[:16]: path for path in sorted(folder.rglob("*")) if path.is_file()}
    label = {"colour": "", "text": "none", "faces": "1", "drawing": "anime", "keep": "0", "note": ""}
    return [{**label, "sha256": key, "file": path.name} for key, path in files.items()], files


def score_photos(
    labels: list[dict[str, str]], files: dict[str, Path], filters: dict[str, Filter], recipe: Recipe
) -> Labelled:
    """Evidence of every decodable labelled photo; kept in the cache by fingerprint, so that a second call is quick.

    `files`: where each label's picture is, by the first 16 hex digits of its sha256.
    """
    labels = [label for label in labels if label["sha256"] in files]
    cached = {name: _cached(item) for name, item in filters.items()}
    todo = [lab for lab in labels if any(lab["sha256"] not in cached[name] for name in filters)]
    fresh: dict[str, list[dict[str, Any]]] = {name: [] for name in filters}
    with ProgressBar("calibrate", len(todo), "photos") as progress:
        for label in todo:
            try:
                picture = decode(files[label["sha256"]].read_bytes(), recipe.images)
            except Undecodable:
                picture = None
            needed: dict[str, pa.Table] = {}
            for name, item in filters.items():
                if picture is not None:
                    needed[name] = item.score([picture], {need: needed[need] for need in item.needs})
                    row = needed[name].to_pylist()[0]
                else:
                    row = {field.name: None for field in item.columns}
                fresh[name].append({"id": label["sha256"], **row, "error": None if picture else "undecodable"})
            progress.advance(1)
    evidence = {}
    for name, item in filters.items():
        table = pa.Table.from_pylist([*cached[name].values(), *fresh[name]], schema=item.schema)
        if fresh[name]:
            _cache_path(item).parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table, _cache_path(item))
        evidence[name] = table
    decoded = {row["id"] for row in evidence["grayscale"].to_pylist() if row["error"] is None}
    labels = [label for label in labels if label["sha256"] in decoded]
    for name, table in evidence.items():
        place = {text: row for row, text in enumerate(table["id"].to_pylist())}
        evidence[name] = table.take([place[label["sha256"]] for label in labels]).combine_chunks()
    return Labelled(labels, evidence)


def _cache_path(item: Filter) -> Path:
    return cache_dir() / "calibration" / f"{item.name}-{item.fingerprint}.parquet"


def _cached(item: Filter) -> dict[str, dict[str, Any]]:
    path = _cache_path(item)
    return {row["id"]: row for row in pq.read_table(path).to_pylist()} if path.exists() else {}
