"""What was fetched, frozen: the snapshot that every later step starts from.

A snapshot is never changed. When a later round fetches more, it writes the next one, and the newest counts. Its json
is created, once, after its parquet, whose name has the hash that the json says: so a snapshot that has one is whole.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from common.settings import RecipeError
from common.storage import json_bytes
from curation.recipe.recipe import Recipe
from curation.run_directory.attempts import LOST, latest_attempts, unit_of
from curation.run_directory.candidates import id_numbers, read_selected, selected_counts, selected_ids, with_numbers
from curation.run_directory.run import Run
from curation.run_directory.schemas import SNAPSHOT, SnapshotCounts

WORK = "work/snapshot"  # of a local run: the rows while they are written
COLUMNS = ["error", "tar", "offset", "size", "sha256"]
GROUP = 100_000  # rows in a row group


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
    return _whole(run, counts, run.read_columns(snapshot_file(counts), columns or SNAPSHOT.names))


def _whole(run: Run, counts: SnapshotCounts, rows: pa.Table) -> pa.Table:
    if rows.num_rows != counts["taken"]:
        raise run.damaged(snapshot_file(counts), f"has {rows.num_rows:,} rows, and {counts['taken']:,} were taken")
    return rows


def read_places(run: Run, counts: SnapshotCounts) -> pa.Table:
    """`id` (as a number), `unit` and `tar` of the rows of a snapshot, in id order: sixteen bytes an image, which a driver
    holds as long as it works."""
    columns = ["id", "unit", "tar"]
    groups = [with_numbers(group) for group in run.read_groups(snapshot_file(counts), columns)]
    nothing = with_numbers(SNAPSHOT.empty_table().select(columns))
    return _whole(run, counts, pa.concat_tables([nothing, *groups]).unify_dictionaries())


def require_snapshot(run: Run) -> pa.Table:
    """`read_places` of the newest snapshot. Raises RecipeError where nothing was fetched."""
    return read_places(run, require_counts(run))


def latest_counts(run: Run) -> SnapshotCounts | None:
    """The counts of the newest snapshot, or None."""
    return next(reversed(snapshots(run).values()), None)


def snapshots(run: Run) -> dict[str, SnapshotCounts]:
    """{path without its ending: counts} of all that are whole, the oldest first."""
    # "snapshot.json" sorts after "snapshot-0001.json"
    paths = sorted(run.glob("fetched/snapshot*.json"), key=lambda path: (len(path), path))
    return {path.removesuffix(".json"): run.read_json(path, SnapshotCounts.__required_keys__) for path in paths}


def write_snapshot(run: Run, recipe: Recipe) -> tuple[SnapshotCounts, bool]:
    """Freeze what the attempts so far have fetched. Returns its counts, and whether it is a new snapshot.

    `failed` is by the latest attempt; `lost` is `lost_by_downloader` and what was never tried. Holds a few numbers of an
    image, and the rows of one row group.
    """
    selected = selected_ids(run)
    wanted = selected_counts(run)["wanted"] if recipe.select.rank_over == "available" else None
    is_taken = None if wanted is None else _among_the_best(run, selected, wanted)
    errors: Counter[str | None] = Counter()
    taken, whole = 0, hashlib.sha256()
    with run.emptied(WORK), run.scratch(WORK) as folder:
        file = folder / "snapshot.parquet"
        with pq.ParquetWriter(file, SNAPSHOT, compression="zstd") as writer:
            for rows in _row_groups(_fetched(latest_attempts(run, COLUMNS), errors, is_taken)):
                writer.write_table(rows)
                taken += rows.num_rows
                for identifier, digest in zip(rows["id"].to_pylist(), rows["sha256"].to_pylist(), strict=True):
                    whole.update(f"{identifier} {digest}\n".encode())
        fetched = errors.pop(None, 0)
        del errors[LOST]  # they are counted with what was never tried
        before = latest_counts(run)
        counts = SnapshotCounts(
            number=before["number"] + 1 if before else 0,
            selected=len(selected),
            fetched=fetched,
            taken=taken,
            surplus=fetched - taken,
            failed=dict(sorted(errors.items())),
            lost=len(selected) - fetched - errors.total(),
            hash=whole.hexdigest()[:16],  # which bytes these are: of "id sha256" lines in id order
        )
        if before and (before["fetched"], before["hash"]) == (counts["fetched"], counts["hash"]):
            return before, False
        run.put_file(file, snapshot_file(counts))
    path = f"{snapshot_name(counts['number'])}.json"
    new = run.write_new(path, json_bytes(counts))  # of two drivers one decides
    return run.read_json(path), new


def _fetched(
    attempts: Iterator[pa.Table], errors: Counter[str | None], is_taken: Callable[[np.ndarray], np.ndarray] | None
) -> Iterator[pa.Table]:
    """The attempts that fetched an image which is taken. Counts all by their `error`, None where one fetched."""
    for rows in attempts:
        errors.update(rows["error"].to_pylist())
        rows = rows.filter(pc.is_null(rows["error"])).drop_columns(["error"])
        yield rows if is_taken is None else rows.filter(pa.array(is_taken(id_numbers(rows["id"]))))


def _row_groups(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Tables together until they have GROUP rows, as rows of a snapshot."""
    group: list[pa.Table] = []
    for table in chain(tables, [None]):
        group += [table] if table else []
        if group and (table is None or sum(each.num_rows for each in group) >= GROUP):
            rows = pa.concat_tables(group)
            units = pa.array([unit_of(tar) for tar in rows["tar"].to_pylist()], pa.string())
            columns = {**{name: rows[name] for name in rows.column_names}, "unit": units}
            yield pa.table([columns[name] for name in SNAPSHOT.names], names=SNAPSHOT.names).cast(SNAPSHOT)
            group = []


def _among_the_best(run: Run, selected: np.ndarray, wanted: int) -> Callable[[np.ndarray], np.ndarray]:
    """Which of some fetched ids are among the `wanted` best of all that are fetched, by the rank in selected/."""
    ranks = np.concatenate([part["rank"].to_numpy() for part in read_selected(run, ["rank"])])
    fetched = np.zeros(len(selected), bool)
    for rows in latest_attempts(run, ["error"]):
        fetched[np.searchsorted(selected, id_numbers(rows["id"].filter(pc.is_null(rows["error"]))))] = True
    if fetched.sum() <= wanted:
        return lambda ids: np.ones(len(ids), bool)
    limit = np.partition(ranks[fetched], wanted)[wanted]  # no two have the same rank
    return lambda ids: ranks[np.searchsorted(selected, ids)] < limit
