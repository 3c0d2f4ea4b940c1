"""Scores pictures by their features: a row a picture and metric."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from common.hashing import sha256_of_bytes
from common.storage import Storage
from evaluation.features import Copied, make_features, read_features
from evaluation.metrics.base import Features, Metric, Pair, Sources
from evaluation.sets import Method

KEY = ["method", "reference", "prompt", "seed", "file"]  # of a picture
OF_REFERENCE = "reference: "  # how an error begins that is no method's fault


@dataclass
class Scored:
    """`rows`: one a picture: method, reference, prompt, seed, file, error, and the metric's numbers; `features`: of each
    file that could be read, by its path."""

    metric: Metric
    rows: pd.DataFrame
    features: dict[str, Features]


def score(
    metrics: Mapping[str, Metric],
    methods: Sequence[Method],
    out: Storage,
    sources: Sources,
    workers: int | None = None,
    copied: Copied | None = None,
) -> Iterator[Scored]:
    """Every picture of every method by each metric, in their order. What is kept in `out` already is not made again.

    Args: as of `make_features`.
    """
    files = {file for method in methods for item in method.drawn for file in _files_of(item)}
    hashes = {file: sha256_of_bytes(file.read_bytes()) for file in sorted(files)}
    make_features(metrics, hashes, out, sources, workers, copied)
    for metric in metrics.values():
        yield _scored(metric, methods, hashes, out)


def _scored(metric: Metric, methods: Sequence[Method], hashes: Mapping[Path, str], out: Storage) -> Scored:
    known = read_features(metric, out)
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
    # where no method could draw there are no rows, and nothing to tell the columns from
    return Scored(metric, pd.DataFrame(rows, columns=None if rows else [*KEY, "error"]), readable)


def _files_of(item: Any) -> Iterable[Path]:
    return (file for file in (item.reference.file, item.reference.target, item.file) if file is not None)
