"""A cheap look at the sources: slices of a few row groups, written as small tables of the same schema.

The whole is not joined for a forecast; population.py says what slices tell of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from common.paths import open_file
from curation.recipe.recipe import LaionFace, Sources
from curation.sources import facecaption, hq4m, laion_face
from curation.sources.columns import find_column
from curation.sources.files import BUFFER, expand_paths

SLICES = 24
ROWS = 40_000  # of all slices of a source together
REACH = 300_000  # rows of a row group's beginning, where its slice lies: to be further on is to read all before it
BATCH = 5_000


@dataclass(frozen=True)
class Slices:
    """Of one source: its rows and the bytes of the columns that are read, the rows that were looked at, and where these are now."""

    rows: int
    bytes: int
    seen: int
    files: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        """Whether every row was looked at."""
        return self.seen == self.rows


@dataclass(frozen=True)
class SourceSlices:
    """Of all sources of a recipe."""

    facecaption: Slices
    laion_face: Slices | None
    hq4m: Slices | None

    @property
    def all(self) -> list[Slices]:
        return [each for each in (self.facecaption, self.laion_face, self.hq4m) if each]

    @property
    def rows(self) -> int:
        return sum(each.rows for each in self.all)

    @property
    def seen(self) -> int:
        return sum(each.seen for each in self.all)

    @property
    def bytes(self) -> int:
        return sum(each.bytes for each in self.all)

    def as_sources(self) -> Sources:
        """The slices as a recipe names sources."""
        laion = LaionFace(parts=list(self.laion_face.files)) if self.laion_face else None
        return Sources(
            facecaption=list(self.facecaption.files),
            laion_face=laion,
            hq4m=list(self.hq4m.files) if self.hq4m else None,
        )


def slices_of(sources: Sources, folder: Path, random: np.random.Generator, rows: int = ROWS) -> SourceSlices:
    """Look at about `rows` rows of every source, and write them into `folder`."""
    faces = _look(
        expand_paths(sources.facecaption, facecaption.FIELD), list(facecaption.COLUMNS), folder / "faces", random, rows
    )
    laion = hq = None
    if sources.laion_face:
        columns = [*laion_face.COLUMNS, *laion_face.OPTIONAL_COLUMNS]
        laion = _look(laion_face.paths_of(sources.laion_face), columns, folder / "laion", random, rows)
    if sources.hq4m:
        hq = _look(expand_paths(sources.hq4m, hq4m.FIELD), list(hq4m.COLUMNS), folder / "hq", random, rows)
    return SourceSlices(faces, laion, hq)


@dataclass(frozen=True)
class _Group:
    path: str
    number: int
    rows: int


def _look(paths: list[str], columns: list[str], folder: Path, random: np.random.Generator, rows: int) -> Slices:
    folder.mkdir(parents=True)
    groups, size = _groups_of(paths, columns)
    total = sum(group.rows for group in groups)
    windows = [(group, 0, group.rows) for group in groups]
    if total > rows:  # of few large row groups several slices each
        windows = [window for group in groups for window in _windows(group, math.ceil(SLICES / len(groups)))]
        windows = [windows[at] for at in random.permutation(len(windows))[:SLICES]]
    most, seen, files = math.ceil(rows / len(windows)) if total > rows else total, 0, []
    for number, (group, first, end) in enumerate(windows):
        start = int(random.integers(first, max(first, end - most) + 1))
        table = _slice(group, columns, start, min(most, end - start))
        files.append(str(folder / f"part-{number:05d}.parquet"))
        pq.write_table(table, files[-1])
        seen += table.num_rows
    return Slices(total, size, seen, tuple(files))


def _windows(group: _Group, count: int) -> list[tuple[_Group, int, int]]:
    """Ranges of rows within reach that share none."""
    edges = np.linspace(0, min(group.rows, REACH), count + 1).astype(int).tolist()
    return [(group, first, end) for first, end in zip(edges[:-1], edges[1:], strict=True) if end > first]


def _groups_of(paths: list[str], columns: list[str]) -> tuple[list[_Group], int]:
    """The row groups of all files that have rows, and the bytes of these columns as they are stored: by the footers."""
    groups, size, wanted = [], 0, {name.lower() for name in columns}
    for path in paths:
        with open_file(path) as file:
            footer = pq.read_metadata(file)
        for number in range(footer.num_row_groups):
            group = footer.row_group(number)
            groups += [_Group(path, number, group.num_rows)] if group.num_rows else []
            stored = [group.column(place) for place in range(footer.num_columns)]
            size += sum(
                each.total_compressed_size for each in stored if each.path_in_schema.split(".")[0].lower() in wanted
            )
    return groups, size


def _slice(group: _Group, columns: list[str], start: int, most: int) -> pa.Table:
    """Neighbours, since the faces of an image may stand together."""
    with open_file(group.path) as file:
        source = pq.ParquetFile(file, buffer_size=BUFFER, pre_buffer=False)
        found = {find_column(source.schema_arrow.names, name): name for name in columns}
        found.pop(None, None)
        read, batches = 0, []
        names = [name for name in found if name]
        for batch in source.iter_batches(BATCH, row_groups=[group.number], columns=names, use_threads=False):
            if read + batch.num_rows > start:
                batches.append(batch)
            read += batch.num_rows
            if read >= start + most:
                break
        table = pa.Table.from_batches(batches)
        return table.slice(start - (read - table.num_rows), most).rename_columns(
            [found[name] for name in table.column_names]
        )
