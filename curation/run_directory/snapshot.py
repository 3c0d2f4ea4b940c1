"""What was fetched, frozen: the snapshot that every later step starts from.

A snapshot is never changed. When a later round fetches more, it writes the next one, and the newest counts. Its json
is created, once, after its parquet, whose name has the hash that the json says: so a snapshot that has one is whole.
"""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from common.settings import RecipeError
from common.storage import json_bytes
from curation.recipe.recipe import Recipe
from curation.run_directory.attempts import LOST, latest_attempts, unit_of
from curation.run_directory.candidates import read_selected, selected_counts
from curation.run_directory.run import Run
from curation.run_directory.schemas import SNAPSHOT, SnapshotCounts


def snapshot_name(number: int) -> str:
    """Path of a snapshot's counts in the run, without the ending."""
    return "fetched/snapshot" if number == 0 else f"fetched/snapshot-{number:04d}"


def snapshot_file(counts: SnapshotCounts) -> str:
    """Path of the rows that these counts are of."""
    return f"{snapshot_name(counts['number'])}-{counts['hash']}.parquet"


def require_counts(run: Run) -> SnapshotCounts:
    """The counts of the newest snapshot. Raises RecipeError where nothing was fetched."""
    counts = latest_counts(run)
    if counts is None:
        raise RecipeError(f"{run.root}: nothing was fetched yet: `python -m curation fetch` comes first")
    return counts


def read_snapshot(run: Run, counts: SnapshotCounts, columns: list[str] | None = None) -> pa.Table:
    """The rows of a snapshot, in id order."""
    rows = run.read_table(snapshot_file(counts), columns or SNAPSHOT.names)
    if rows.num_rows != counts["taken"]:
        raise run.damaged(snapshot_file(counts), f"has {rows.num_rows:,} rows, and {counts['taken']:,} were taken")
    return rows


def require_snapshot(run: Run) -> pa.Table:
    """`id`, `unit` and `tar` of the newest snapshot. Raises RecipeError where nothing was fetched."""
    return read_snapshot(run, require_counts(run), ["id", "unit", "tar"])


def latest_counts(run: Run) -> SnapshotCounts | None:
    """The counts of the newest snapshot, or None."""
    return next(reversed(snapshots(run).values()), None)


def snapshots(run: Run) -> dict[str, SnapshotCounts]:
    """{path without its ending: counts} of all that are whole, the oldest first."""
    # "snapshot.json" sorts after "snapshot-0001.json"
    paths = sorted(run.glob("fetched/snapshot*.json"), key=lambda path: (len(path), path))
    return {path.removesuffix(".json"): run.read_json(path, SnapshotCounts.__required_keys__) for path in paths}


def snapshot_hash(rows: pa.Table) -> str:
    """Which bytes these are: 16 hex digits of the sha256 over "id sha256" lines in id order."""
    whole = hashlib.sha256()
    for batch in rows.select(["id", "sha256"]).to_batches(max_chunksize=10_000):
        for identifier, digest in zip(batch["id"].to_pylist(), batch["sha256"].to_pylist(), strict=True):
            whole.update(f"{identifier} {digest}\n".encode())
    return whole.hexdigest()[:16]


def best_ranked(fetched: pa.Table, selected: pa.Table, wanted: int | None) -> pa.Table:
    """The `wanted` best of `fetched` by the rank in `selected`, in id order; all of them for None."""
    if wanted is None or fetched.num_rows <= wanted:
        return fetched
    rank = selected["rank"].take(pc.index_in(fetched["id"], value_set=selected["id"])).to_numpy()
    return fetched.take(np.sort(np.argsort(rank, kind="stable")[:wanted]))


def write_snapshot(run: Run, recipe: Recipe) -> tuple[SnapshotCounts, bool]:
    """Freeze what the attempts so far have fetched. Returns its counts, and whether it is a new snapshot.

    `failed` is by the latest attempt; `lost` is `lost_by_downloader` and what was never tried.
    """
    attempts = latest_attempts(run, ["error", "tar", "offset", "size", "sha256"])
    fetched = attempts.filter(pc.is_null(attempts["error"])).drop_columns(["error"])
    errors = Counter(
        {row["values"]: row["counts"] for row in pc.value_counts(attempts["error"].drop_null()).to_pylist()}
    )
    tried = attempts.num_rows
    del attempts  # ten million rows are not to be held twice
    selected = read_selected(run, ["id", "rank"])
    wanted = selected_counts(run)["wanted"] if recipe.select.rank_over == "available" else None
    rows = best_ranked(fetched, selected, wanted)
    lost = errors.pop(LOST, 0) + selected.num_rows - tried
    before = latest_counts(run)
    counts = SnapshotCounts(
        number=before["number"] + 1 if before else 0,
        selected=selected.num_rows,
        fetched=fetched.num_rows,
        taken=rows.num_rows,
        surplus=fetched.num_rows - rows.num_rows,
        failed=dict(sorted(errors.items())),
        lost=lost,
        hash=snapshot_hash(rows),
    )
    if before and (before["fetched"], before["hash"]) == (counts["fetched"], counts["hash"]):
        return before, False
    # a tar is a unit's: so is its place in the dictionary
    tars = rows["tar"].combine_chunks()
    tars = tars.chunk(0) if isinstance(tars, pa.ChunkedArray) else tars
    units = pa.array([unit_of(tar) for tar in tars.dictionary.to_pylist()], pa.string())
    columns = {name: rows[name] for name in ("id", "tar", "offset", "size", "sha256")}
    columns["unit"] = pa.DictionaryArray.from_arrays(tars.indices, units)
    run.write_table(snapshot_file(counts), pa.table([columns[name] for name in SNAPSHOT.names], schema=SNAPSHOT))
    path = f"{snapshot_name(counts['number'])}.json"
    new = run.write_new(path, json_bytes(counts))  # of two drivers one decides
    return run.read_json(path), new
