"""What a cut made of the scores, as plain arrays: verdicts, annotations, the plan and the shards."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from curation.ledger.tables import LedgerError, Words, ids_of, stack
from curation.run_directory.run import Run

VERDICTS = ("kept", "rejected", "undecided", "undecodable")


@dataclass
class Verdicts:
    """A cut: one row an image."""

    ids: np.ndarray
    verdict: np.ndarray  # index into VERDICTS
    reason: np.ndarray
    checks: np.ndarray  # int8 (rows, len(names)): 1 pass, 0 fail, -1 not evaluated
    audited: np.ndarray
    caption_face: np.ndarray
    reasons: Words
    names: tuple[str, ...]  # of the checks, in the order in which reasons are given

    def are(self, verdict: str) -> np.ndarray:
        return self.verdict == VERDICTS.index(verdict)


def read_verdicts(run: Run, cut: str) -> Verdicts | None:
    parts, verdicts, reasons, names = [], Words(VERDICTS), Words(), ()
    for path in run.glob(f"cuts/{cut}/verdicts/*.parquet"):
        table = run.read_table(path)
        names = tuple(column.name for column in table.schema if column.type == pa.int8())
        checks = np.stack([table[check].to_numpy().astype(np.int8) for check in names], axis=1)
        audited = table["audited"].to_numpy(zero_copy_only=False).astype(bool)
        parts.append(
            (
                ids_of(table, path),
                verdicts.codes(table["verdict"]),
                reasons.codes(table["reason"]),
                checks.reshape(-1, len(names)),
                audited,
                table["caption_face"].to_numpy().astype(np.int32),
            )
        )
    if not parts:
        return None
    if len(verdicts.words) > len(VERDICTS):
        raise LedgerError(f"cuts/{cut}/verdicts: unknown verdict {verdicts.words[len(VERDICTS)]!r}")
    return Verdicts(*stack(parts), reasons, names)


@dataclass
class Annotations:
    """An image that other cuts keep for another face has several rows, one a face."""

    ids: np.ndarray  # distinct, ascending
    ever_without: np.ndarray  # bool: some face of it has no identity
    never_with: np.ndarray  # bool: no face of it has one


def read_annotations(run: Run, folder: str) -> Annotations | None:
    parts = []
    for path in run.glob(f"{folder}/*.parquet"):
        table = run.read_table(path, ["id", "identity"])
        parts.append((ids_of(table, path), table["identity"].is_null().to_numpy()))
    if not parts:
        return None
    ids, missing = stack(parts)
    starts = np.flatnonzero(np.append(True, ids[1:] != ids[:-1])) if len(ids) else np.zeros(0, dtype=np.int64)
    if not len(starts):
        return Annotations(ids, missing, missing)
    return Annotations(ids[starts], np.logical_or.reduceat(missing, starts), np.logical_and.reduceat(missing, starts))


@dataclass
class Shards:
    """The plan of a cut and the sidecars of the shards that are finished."""

    plan: np.ndarray | None  # ids, ascending
    planned_shards: dict[int, int] = field(default_factory=dict)  # shard -> samples
    sidecars: list[dict[str, Any]] = field(default_factory=list)  # shard, samples, bytes, revision, indexed
    ids: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))


def read_shards(run: Run, cut: str) -> Shards:
    plan, planned, path = None, {}, f"cuts/{cut}/plan.parquet"
    if run.exists(path):
        table = run.read_table(path, ["id", "shard"])
        plan = np.sort(ids_of(table, path))
        numbers, counts = np.unique(table["shard"].to_numpy(), return_counts=True)
        planned = dict(zip(numbers.tolist(), counts.tolist(), strict=True))
    sidecars, ids = [], [np.zeros(0, np.uint64)]
    for path in run.glob(f"shards/{cut}/*.json"):
        if not re.fullmatch(r"\d+\.json", path.rsplit("/", 1)[1]):
            continue  # sizes.json and such are beside them
        sidecar = run.read_json(path)
        index = sidecar.pop("index", [])
        ids.append(ids_of(pa.table({"id": pa.array([row["id"] for row in index], pa.string())}), path))
        sidecars.append({**sidecar, "indexed": len(index)})
    return Shards(plan, planned, sidecars, np.sort(np.concatenate(ids)))
