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

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from common.paths import open_file
from curation.recipe.recipe import LaionFace, Sources
from curation.sources import facecaption, hq4m, laion_face
from curation.sources.row_groups import RowGroup, expand_paths, row_groups_of
from curation.sources.urls import query

SLICES = 8
ROWS = 40_000  # of all slices of a source together
IDS_SQL = "SELECT DISTINCT url_id(first_url(url)) AS id FROM source"


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


def _look(paths: list[str], columns: list[str], folder: Path, random: np.random.Generator, rows: int) -> Slices:
    folder.mkdir(parents=True)
    groups = row_groups_of(paths)
    total, size = _size_of(paths, columns)
    if total > rows:
        groups = [groups[at] for at in random.permutation(len(groups))[:SLICES]]
    most, seen, files = math.ceil(rows / len(groups)) if total > rows else total, 0, []
    for number, group in enumerate(groups):
        table = _slice(group, columns, most, random)
        files.append(str(folder / f"part-{number:05d}.parquet"))
        pq.write_table(table, files[-1])
        seen += table.num_rows
    return Slices(total, size, seen, tuple(files))


def _size_of(paths: list[str], columns: list[str]) -> tuple[int, int]:
    """(rows, bytes of these columns as they are stored) of all files, by their footers."""
    rows, size, wanted = 0, 0, {name.lower() for name in columns}
    for path in paths:
        with open_file(path) as file:
            footer = pq.ParquetFile(file).metadata
        rows += footer.num_rows
        for group in range(footer.num_row_groups):
            stored = [footer.row_group(group).column(number) for number in range(footer.num_columns)]
            size += sum(
                each.total_compressed_size for each in stored if each.path_in_schema.split(".")[0].lower() in wanted
            )
    return rows, size


def _slice(group: RowGroup, columns: list[str], most: int, random: np.random.Generator) -> pa.Table:
    """Neighbours, since the faces of an image may stand together."""
    table = group.read(columns)
    start = int(random.integers(0, max(1, table.num_rows - most + 1)))
    return table.slice(start, most)


def _with_twins(slices: Slices) -> Slices:
    if slices.is_whole or len(slices.files) < 2:
        return slices
    ids, sizes = Counter(), []
    for path in slices.files:
        with open_file(path) as file:
            found = query(IDS_SQL, source=pq.read_table(file, columns=["url"]))["id"].drop_null().to_pylist()
        ids.update(found)
        sizes.append(len(found))
    met = sum(count * (count - 1) / 2 for count in ids.values())
    return replace(slices, twins=twins_of(met, sizes, slices.rows, slices.seen), met=met)


def twins_of(met: float, sizes: Sequence[int], rows: int, seen: int) -> float:
    """How many pairs of the same image the whole has, where `met` were found between slices of `sizes` images, `seen` rows."""
    looked_at = (sum(sizes) ** 2 - sum(size**2 for size in sizes)) / 2
    images = sum(sizes) * rows / seen
    return met * (images**2 / 2) / looked_at if looked_at else 0.0
