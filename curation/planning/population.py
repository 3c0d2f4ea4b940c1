"""How many images the sources have, by slices of their rows, where an image may have several rows, near or far apart.

Those near meet in a slice. Those far apart meet between slices, and what share of all pairs of rows was looked at is known:
so the pairs of the whole are, too. An image with three rows makes three pairs and two rows too many; how often that is
follows from their number, as if the further rows fell on images at random.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.run_directory.candidates import id_numbers
from curation.sources.columns import texts
from curation.sources.urls import MACROS

IDS_SQL = "SELECT DISTINCT id_in(url) AS id FROM source WHERE id IS NOT NULL"


@dataclass(frozen=True)
class Overlap:
    """Of slices: float64 (slices,) their `rows` and how many images each has; float64 (slices, slices), how many images two of
    them have both; and how many images all have together."""

    rows: np.ndarray
    images: np.ndarray
    both: np.ndarray
    distinct: int

    @classmethod
    def of(cls, files: Sequence[str]) -> Overlap:
        """Of FaceCaption's slices."""
        ids, rows = [], []
        with duckdb.connect(config={"threads": 1}) as connection:
            connection.execute("SET enable_progress_bar = false")  # it would be in what the command prints
            connection.execute(MACROS)
            for path in files:
                urls = pc.cast(texts(pq.read_table(path, columns=["url"])["url"])[0], pa.string())
                connection.register("source", pa.table({"url": urls}))
                found = connection.sql(IDS_SQL).to_arrow_table()
                ids.append(np.sort(id_numbers(found["id"])))
                rows.append(len(urls))
        both = np.zeros((len(ids), len(ids)))
        for one in range(len(ids)):
            for other in range(one):
                both[one, other] = both[other, one] = len(np.intersect1d(ids[one], ids[other], assume_unique=True))
        distinct = len(np.unique(np.concatenate(ids))) if ids else 0
        return cls(np.array(rows, float), np.array([len(each) for each in ids], float), both, distinct)

    def whole(self, rows: int, weights: np.ndarray) -> np.ndarray:
        """float64 (draws,): the images of the whole of so many rows. `weights`: float64 (draws, slices), how often each slice
        was drawn."""
        own = weights @ self.images  # an image once a slice
        here = rows * own / np.maximum(1.0, weights @ self.rows)
        met = np.einsum("di,ij,dj->d", weights, self.both, weights) / 2
        looked_at = (own**2 - weights**2 @ self.images**2) / 2
        pairs = met / np.where(looked_at > 0, looked_at, np.inf) * here**2 / 2
        # `more` rows an image beside its first, at random: more + more**2 / 2 pairs an image
        share = pairs / np.maximum(1.0, here)
        more = share - 1 + np.sqrt((1 - share) ** 2 + 2 * share)
        return here / (1 + more)
