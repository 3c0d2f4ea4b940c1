"""The attempts to download an image: where their files are, and the latest one of each image."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

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


def latest_attempts(run: Run, columns: list[str]) -> pa.Table | None:
    """The last attempt at each id, in id order: `id` and `columns` of it; None before the first one."""
    table = run.read_tables("fetched/[0-9]*/[0-9]*.parquet", ["id", *columns])
    if table is None:
        return None
    # tables come in the order of round and part: of an id's rows the last is the latest
    numbered = pa.table({"id": table["id"], "row": np.arange(table.num_rows)})
    last = numbered.group_by("id").aggregate([("row", "max")])
    return table.take(last["row_max"]).sort_by("id")
