"""What was fetched, frozen: the snapshot that every later step starts from.

A snapshot is never changed. A later healing writes the next one, and the newest counts; its json is written after
its parquet, so a snapshot that has one is whole.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.fetch.part import part_name
from curation.recipe.recipe import Recipe
from curation.run_directory.run import Run

LOST = "lost_by_downloader"


def snapshot_name(number: int) -> str:
    return "fetched/snapshot" if number == 0 else f"fetched/snapshot-{number:04d}"


def latest_snapshot(run: Run) -> tuple[pa.Table, dict[str, Any]] | None:
    """(rows in id order, counts) of the newest snapshot, or None."""
    info = latest_info(run)
    return (run.read_table(f"{snapshot_name(info['number'])}.parquet"), info) if info else None


def latest_info(run: Run) -> dict[str, Any] | None:
    """The counts of the newest snapshot, or None."""
    complete = run.glob("fetched/snapshot*.json")
    # "snapshot.json" sorts after "snapshot-0001.json"
    numbers = [int(path.removesuffix(".json").partition("-")[2] or 0) for path in complete]
    return run.read_json(f"{snapshot_name(max(numbers))}.json") if numbers else None


def latest_attempts(run: Run, columns: list[str]) -> pa.Table | None:
    """The last attempt at each id, in id order; None before the first one."""
    table = run.read_tables("fetched/[0-9]*/[0-9]*.parquet", ["id", *columns])
    if table is None:
        return None
    # tables come in the order of round and part: of an id's rows the last is the latest
    numbered = pa.table({"id": table["id"], "row": np.arange(table.num_rows)})
    last = numbered.group_by("id").aggregate([("row", "max")])
    return table.take(last["row_max"]).sort_by("id")


def content_hash(ids: list[str], digests: list[str]) -> str:
    """Which bytes these are: over "id sha256" lines in id order."""
    whole = hashlib.sha256()
    for identifier, digest in zip(ids, digests, strict=True):
        whole.update(f"{identifier} {digest}\n".encode())
    return whole.hexdigest()[:16]


def taken(fetched: pa.Table, selected: pa.Table, wanted: int | None) -> pa.Table:
    """The `wanted` best of `fetched` by the rank in `selected`, in id order; all of them for None."""
    if wanted is None or fetched.num_rows <= wanted:
        return fetched
    rank = selected["rank"].take(pc.index_in(fetched["id"], value_set=selected["id"])).to_numpy()
    return fetched.take(np.sort(np.argsort(rank, kind="stable")[:wanted]))


def write_snapshot(run: Run, recipe: Recipe) -> tuple[dict[str, Any], bool]:
    """Freeze what the attempts so far amount to. Returns its counts, and whether it is a new snapshot.

    selected = fetched + sum(failed) + lost, and fetched = taken + surplus; `failed` is by the latest attempt and
    `lost` is `lost_by_downloader` and what was never tried.
    """
    selected = run.read_tables("selected/*.parquet", ["id", "rank"])
    attempts = latest_attempts(run, ["error", "round", "part", "offset", "size", "sha256"])
    fetched = attempts.filter(pc.is_null(attempts["error"]))
    wanted = run.read_json("selected/counts.json")["wanted"] if recipe.select.rank_over == "available" else None
    rows = taken(fetched, selected, wanted)
    errors = Counter(attempts["error"].drop_null().to_pylist())
    lost = errors.pop(LOST, 0) + selected.num_rows - attempts.num_rows
    before = latest_info(run)
    info = {
        "number": before["number"] + 1 if before else 0,
        "selected": selected.num_rows,
        "fetched": fetched.num_rows,
        "taken": rows.num_rows,
        "surplus": fetched.num_rows - rows.num_rows,
        "failed": dict(sorted(errors.items())),
        "lost": lost,
        "hash": content_hash(rows["id"].to_pylist(), rows["sha256"].to_pylist()),
    }
    if before and all(before[key] == info[key] for key in ("fetched", "hash")):
        return before, False
    places = list(zip(rows["round"].to_pylist(), rows["part"].to_pylist(), strict=True))
    table = pa.table(
        {
            "id": rows["id"],
            "tar": pa.array([f"{part_name(*place)}.tar" for place in places], pa.string()),
            "unit": pa.array([f"{number:02d}-{part:05d}" for number, part in places], pa.string()),
            "offset": rows["offset"],
            "size": rows["size"],
            "sha256": rows["sha256"],
        }
    )
    run.write_table(f"{snapshot_name(info['number'])}.parquet", table)
    run.write_json(f"{snapshot_name(info['number'])}.json", info)
    return info, True
