"""The attempts to download an image: where their files are, and the latest one of each image."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from curation.run_directory.candidates import id_numbers
from curation.run_directory.run import Run

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


def latest_attempts(run: Run, columns: list[str]) -> pa.Table | None:
    """The last attempt at each id, in id order: `id` and `columns` of it; None before the first one.

    Text that is the same in many rows (`error`, `tar`) comes as a dictionary, or ten million rows would not fit.
    """
    paths = run.glob("fetched/[0-9]*/[0-9]*.parquet")
    if not paths:
        return None
    parts = []
    for part in run.read_each(paths, ["id", *columns]):
        for name in {"error", "tar"}.intersection(columns):
            at = part.column_names.index(name)
            part = part.set_column(at, name, part[name].dictionary_encode())
        parts.append(part)
    table = pa.concat_tables(parts).unify_dictionaries()
    del parts
    numbers = id_numbers(table["id"])
    order = np.argsort(numbers, kind="stable")
    # tables come in the order of round and part: of an id's rows the last is the latest
    ascending = numbers[order]
    return table.take(order[np.append(ascending[1:] != ascending[:-1], True)])
