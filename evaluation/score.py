"""Scores pictures: features by content hash, each made once however often the command is begun; a row a picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from common.decode import Undecodable, decode
from common.decode.limits import ImageLimits
from common.hashing import sha256_of_bytes
from common.progress import ProgressBar
from common.storage import Storage
from evaluation.metrics.base import Features, Metric, Pair
from evaluation.sets import Method

LIMITS = ImageLimits(min_side=1, working_side=100_000)  # pictures are scored at their full size
OF_REFERENCE = "reference: "  # how an error begins that is no method's fault
PART = 50  # pictures a file of features: what a kill costs


@dataclass
class Scored:
    """`rows`: one a picture: method, reference, prompt, seed, file, error, and the metric's numbers; `features`: of each
    file that could be read, by its path."""

    metric: Metric
    rows: pd.DataFrame
    features: dict[str, Features]


def score(metric: Metric, methods: Sequence[Method], out: Storage) -> Scored:
    """Every picture of every method by one metric. What is kept in `out` already is not made again."""
    files = {file for method in methods for item in method.drawn for file in _files_of(item)}
    hashes = {file: sha256_of_bytes(file.read_bytes()) for file in sorted(files)}
    known = features_of(metric, hashes, out)
    rows = []
    for method in methods:
        for item in method.drawn:
            reference, target = known[hashes[item.reference.file]], None
            if item.reference.target is not None:
                target = known[hashes[item.reference.target]]
            drawn = known[hashes[item.file]] if item.file is not None else {"error": item.failure or "not drawn"}
            bad = reference["error"] or metric.unusable(reference)
            error = f"{OF_REFERENCE}{bad}" if bad else drawn["error"]
            usable = target if target is not None and not target["error"] else None
            pair = Pair(reference, drawn, usable, item.words)
            numbers = {} if error else metric.scores(pair)
            rows.append(
                {
                    "method": method.name, "reference": item.reference.name, "prompt": item.prompt, "seed": item.seed,
                    "file": str(item.file or ""), "error": error or "", **numbers,
                }
            )  # fmt: skip
    readable = {str(file): known[key] for file, key in hashes.items() if not known[key]["error"]}
    return Scored(metric, pd.DataFrame(rows), readable)


def _files_of(item: Any) -> Iterable[Path]:
    return (file for file in (item.reference.file, item.reference.target, item.file) if file is not None)


def features_of(metric: Metric, hashes: Mapping[Path, str], out: Storage) -> dict[str, Features]:
    """The features of each picture by its sha256, `error` among them: null, or why it cannot be read."""
    folder = f"features/{metric.name}-{metric.fingerprint}"
    schema = metric.schema.append(pa.field("error", pa.string()))
    known: dict[str, Features] = {}
    for part in out.glob(f"{folder}/*.parquet"):
        known |= {row["sha256"]: row for row in out.read_table(part).to_pylist()}
    waiting = {key: file for file, key in hashes.items() if key not in known}
    with ProgressBar("score", len(hashes), "pictures") as progress:
        progress.advance(len(hashes) - len(waiting), metric.name)
        for start in range(0, len(waiting), PART):
            fresh = []
            for key, file in list(waiting.items())[start : start + PART]:
                fresh.append({"sha256": key, **_features(metric, file)})
                progress.advance(1, metric.name)
            name = sha256_of_bytes("".join(row["sha256"] for row in fresh).encode())[:16]
            out.write_table(f"{folder}/{name}.parquet", pa.Table.from_pylist(fresh, schema=schema))
            known |= {row["sha256"]: row for row in fresh}
    return known


def _features(metric: Metric, file: Path) -> dict[str, Any]:
    try:
        picture = decode(file.read_bytes(), LIMITS, full_size=True)
    except Undecodable as error:
        return {**dict.fromkeys(field.name for field in metric.columns), "error": str(error)}
    return {**metric.features(picture.rgb), "error": None}
