"""A cheap look at the sources: slices of a few row groups, written as small tables of the same schema.

The whole is not joined for a forecast. What a slice cannot show, the same image in rows far apart, is told from the pairs
that meet between slices: of all pairs of rows they are a known share.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from common.paths import open_file
from curation.recipe.recipe import LaionFace, Sources
from curation.sources import facecaption, hq4m, laion_face
from curation.sources.columns import find_column, texts
from curation.sources.files import BUFFER, expand_paths
from curation.sources.urls import MACROS

SLICES = 8
ROWS = 40_000  # of all slices of a source together
REACH = 300_000  # rows of a row group's beginning, where its slice lies: to be further on is to read all before it
BATCH = 5_000
IDS_SQL = "SELECT DISTINCT id_in(url) AS id FROM source WHERE id IS NOT NULL"


@dataclass(frozen=True)
class Slices:
    """Of one source: its rows and the bytes of the columns that are read, the rows that were looked at, and where these are now. `twins`: how many rows of the
    whole are of an image that has another row far apart, by the `met` pairs that were seen."""

    rows: int
    bytes: int
    seen: int
    files: tuple[str, ...]
    twins: float = 0.0
    met: float = 0.0

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
    return SourceSlices(_with_twins(faces), laion, hq)


@dataclass(frozen=True)
class _Group:
    path: str
    number: int
    rows: int


def _look(paths: list[str], columns: list[str], folder: Path, random: np.random.Generator, rows: int) -> Slices:
    folder.mkdir(parents=True)
    groups, size = _groups_of(paths, columns)
    total = sum(group.rows for group in groups)
    if total > rows:
        groups = [groups[at] for at in random.permutation(len(groups))[:SLICES]]
    most, seen, files = math.ceil(rows / len(groups)) if total > rows else total, 0, []
    for number, group in enumerate(groups):
        start = int(random.integers(0, max(0, min(group.rows, REACH) - most) + 1))
        table = _slice(group, columns, start, most)
        files.append(str(folder / f"part-{number:05d}.parquet"))
        pq.write_table(table, files[-1])
        seen += table.num_rows
    return Slices(total, size, seen, tuple(files))


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


def _with_twins(slices: Slices) -> Slices:
    if slices.is_whole or len(slices.files) < 2:
        return slices
    ids, sizes = Counter(), []
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute(MACROS)
        for path in slices.files:
            urls = pc.cast(texts(pq.read_table(path, columns=["url"])["url"])[0], pa.string())
            connection.register("source", pa.table({"url": urls}))
            found = [row[0] for row in connection.sql(IDS_SQL).fetchall()]
            ids.update(found)
            sizes.append(len(found))
    met = sum(count * (count - 1) / 2 for count in ids.values())
    return replace(slices, twins=twins_of(met, sizes, slices.rows, slices.seen), met=met)


def twins_of(met: float, sizes: Sequence[int], rows: int, seen: int) -> float:
    """How many pairs of the same image the whole has, where `met` were found between slices of `sizes` images, `seen` rows."""
    looked_at = (sum(sizes) ** 2 - sum(size**2 for size in sizes)) / 2
    images = sum(sizes) * rows / seen
    return met * (images**2 / 2) / looked_at if looked_at else 0.0
