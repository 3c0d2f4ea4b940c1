"""The attempts to download an image: where their files are, and the latest one of each image."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from curation.run_directory.candidates import id_numbers
from curation.run_directory.run import Run
from curation.run_directory.schemas import ATTEMPT

LOST = "lost_by_downloader"  # the `error` of an attempt of which the downloader reported nothing that can be used


def part_name(round_number: int, part: int) -> str:
    """Path of a part's files in the run, without their endings."""
    return f"fetched/{round_number:02d}/{part:05d}"


def images_file(tar: str) -> str:
    """Path of the table of what a fetched tar holds, `fetched/ROUND/images/PART-HASH.parquet`."""
    folder, _, name = tar.removesuffix(".tar").rpartition("/")
    return f"{folder}/images/{name}.parquet"


def unit_name(round_number: int, part: int) -> str:
    """Name of everything that is computed from a part's images."""
    return f"{round_number:02d}-{part:05d}"


def unit_of(tar: str) -> str:
    """The name of the unit whose images a fetched tar holds."""
    _, round_number, name = tar.rsplit("/", 2)
    return f"{round_number}-{name.partition('-')[0]}"


def latest_attempts(run: Run, columns: list[str]) -> Iterator[pa.Table]:
    """The last attempt at each id, in id order, a part of the first round at a time: `id` and `columns` of it.

    The first round tries every id, in parts that are in id order: so only what later rounds tried again is held.
    """
    columns = ["id", *columns]
    first = run.glob(f"{part_name(0, 0).rpartition('/')[0]}/[0-9]*.parquet")
    later = [path for path in run.glob("fetched/[0-9]*/[0-9]*.parquet") if path not in set(first)]
    empty = pa.schema([ATTEMPT.field(name) for name in columns]).empty_table()
    again = _last_of_each(pa.concat_tables([empty, *run.read_each(later, columns)]))
    ids, start = id_numbers(again["id"]), 0
    for part in run.read_each(first, columns):
        stop = int(np.searchsorted(ids, id_numbers(part["id"]).max(initial=np.uint64(0)), side="right"))
        yield _last_of_each(pa.concat_tables([part, again.slice(start, stop - start)]))
        start = stop
    if start < again.num_rows:
        yield again.slice(start)


def _last_of_each(rows: pa.Table) -> pa.Table:
    """Of each id the last of its rows, which are in the order of their rounds; in id order."""
    numbers = id_numbers(rows["id"])
    order = np.argsort(numbers, kind="stable")
    ascending = numbers[order]
    return rows.take(order[np.append(ascending[1:] != ascending[:-1], True)] if len(order) else order)
