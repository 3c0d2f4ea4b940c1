"""What became of each image of a run, in columns: what a forecast is made of, and what it is compared with."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from curation.cutting.cut import current_pass
from curation.run_directory.candidates import id_numbers, read_selected, selected_ids
from curation.run_directory.run import Run
from curation.run_directory.snapshot import read_snapshot, require_counts

BLOCK = 512  # of a tar: a member is a header and whole blocks


@dataclass(frozen=True)
class ImageFacts:
    """Of each selected image, in id order: its `rank`; `attempts` to fetch it, `seconds` of all of them, bytes that came (`came`);
    `fetched`, `taken`, `kept`, `packed`; `size` of its bytes in the tar, and of its sample in a shard (`sample`), 0 where
    there is none."""

    rank: np.ndarray
    attempts: np.ndarray
    seconds: np.ndarray
    came: np.ndarray
    fetched: np.ndarray
    taken: np.ndarray
    kept: np.ndarray
    packed: np.ndarray
    size: np.ndarray
    sample: np.ndarray

    def __len__(self) -> int:
        return len(self.fetched)

    def of(self, rows: np.ndarray) -> ImageFacts:
        """Of some of the images."""
        return ImageFacts(*(column[rows] for column in vars(self).values()))


def read_facts(run: Run, name: str) -> ImageFacts:
    """Of a finished run and one of its cuts."""
    ids = selected_ids(run)
    columns = {field: np.zeros(len(ids)) for field in ImageFacts.__dataclass_fields__}

    def add(field: str, rows: pa.ChunkedArray, values: np.ndarray | float = 1.0) -> None:
        np.add.at(columns[field], np.searchsorted(ids, id_numbers(rows)), values)

    for part in read_selected(run, ["id", "rank"]):
        add("rank", part["id"], _numbers(part["rank"]))
    for path in run.glob("fetched/[0-9]*/[0-9]*.parquet"):
        table = run.read_table(path, ["id", "error", "bytes", "seconds", "size"])
        add("attempts", table["id"])
        for field, column in (("came", "bytes"), ("seconds", "seconds"), ("size", "size")):
            add(field, table["id"], _numbers(table[column]))
        got = table.filter(table["error"].is_null())
        add("fetched", got["id"])
    add("taken", read_snapshot(run, require_counts(run), ["id"])["id"])
    for path in run.glob(f"{current_pass(run, name)}/*.parquet"):
        table = run.read_table(path, ["id", "verdict"])
        add("kept", table["id"], np.array([verdict == "kept" for verdict in table["verdict"].to_pylist()]))
    for path in run.glob(f"shards/{name}/[0-9]*.json"):
        index = run.read_json(path, ("index",))["index"]
        packed = pa.chunked_array([pa.array([entry["id"] for entry in index], pa.string())])
        add("packed", packed)
        add("sample", packed, np.array([_in_tar(entry["members"].values()) for entry in index], dtype=np.float64))
    return ImageFacts(**columns)


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    return column.fill_null(0).to_numpy().astype(np.float64)


def _in_tar(members: Collection[tuple[int, int]]) -> float:
    return float(sum(BLOCK + -(-size // BLOCK) * BLOCK for _, size in members))
