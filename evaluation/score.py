"""Scores pictures: features by content hash, each made once however often the command is begun; a row a picture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
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


def score(metrics: Sequence[Metric], methods: Sequence[Method], out: Storage) -> Iterator[Scored]:
    """Every picture of every method by each metric, in their order. What is kept in `out` already is not made again."""
    files = {file for method in methods for item in method.drawn for file in _files_of(item)}
    hashes = {file: sha256_of_bytes(file.read_bytes()) for file in sorted(files)}
    make_features(metrics, hashes, out)
    for metric in metrics:
        yield _scored(metric, methods, hashes, out)


def _scored(metric: Metric, methods: Sequence[Method], hashes: Mapping[Path, str], out: Storage) -> Scored:
    known = {row["sha256"]: row for part in _parts(metric, out) for row in out.read_table(part).to_pylist()}
    rows = []
    for method in methods:
        for item in method.drawn:
            reference, target, remark = known[hashes[item.reference.file]], None, ""
            if item.reference.target is not None:
                target = known[hashes[item.reference.target]]
                if wrong := target["error"] or metric.unusable(target):
                    remark = f"the other photo of the person: {wrong}"
            drawn = known[hashes[item.file]] if item.file is not None else {"error": item.failure or "not drawn"}
            bad = reference["error"] or metric.unusable(reference)
            error = f"{OF_REFERENCE}{bad}" if bad else drawn["error"]
            usable = target if target is not None and not target["error"] else None
            pair = Pair(reference, drawn, usable, item.words)
            numbers = {} if error else metric.scores(pair)
            rows.append(
                {
                    "method": method.name, "reference": item.reference.name, "prompt": item.prompt, "seed": item.seed,
                    "file": str(item.file or ""), "error": error or metric.remark(drawn) or remark, **numbers,
                }
            )  # fmt: skip
    readable = {str(file): known[key] for file, key in hashes.items() if not known[key]["error"]}
    return Scored(metric, pd.DataFrame(rows), readable)


def _files_of(item: Any) -> Iterable[Path]:
    return (file for file in (item.reference.file, item.reference.target, item.file) if file is not None)


def make_features(metrics: Sequence[Metric], hashes: Mapping[Path, str], out: Storage) -> None:
    """Keeps in `out` each picture's features by each metric, `error` among them: null, or why it cannot be read.

    A picture is decoded once for all metrics that lack it.
    """
    files = {key: file for file, key in hashes.items()}
    lacking: dict[str, list[Metric]] = {key: [] for key in files}
    for metric in metrics:
        parts = [out.read_table(part, ["sha256"])["sha256"].to_pylist() for part in _parts(metric, out)]
        for key in set(files).difference(*parts):
            lacking[key].append(metric)
    waiting = [key for key in files if lacking[key]]
    with ProgressBar("score", len(files), "pictures") as progress:
        progress.advance(len(files) - len(waiting))
        for start in range(0, len(waiting), PART):
            fresh: dict[str, list[Features]] = {}
            for key in waiting[start : start + PART]:
                for metric, row in _features(lacking[key], files[key]):
                    fresh.setdefault(metric.name, []).append({"sha256": key, **row})
                progress.advance(1)
            for metric in metrics:
                if rows := fresh.get(metric.name):
                    name = sha256_of_bytes("".join(row["sha256"] for row in rows).encode())[:16]
                    schema = metric.schema.append(pa.field("error", pa.string()))
                    out.write_table(f"{_folder(metric)}/{name}.parquet", pa.Table.from_pylist(rows, schema=schema))


def _folder(metric: Metric) -> str:
    return f"features/{metric.name}-{metric.fingerprint}"


def _parts(metric: Metric, out: Storage) -> list[str]:
    return out.glob(f"{_folder(metric)}/*.parquet")


def _features(metrics: Sequence[Metric], file: Path) -> Iterator[tuple[Metric, dict[str, Any]]]:
    try:
        picture = decode(file.read_bytes(), LIMITS, full_size=True)
    except Undecodable as error:
        for metric in metrics:
            yield metric, {**dict.fromkeys(field.name for field in metric.columns), "error": str(error)}
        return
    for metric in metrics:
        yield metric, {**metric.features(picture.rgb), "error": None}
