"""The resolution sort: an exact, deterministic top-K over all candidates.

The paper sorted FaceCaption-15M "by resolution" and took the top 10 million; of what, it does not say. FaceCaption
itself means the face crop when it says resolution, so the default key is the shorter side of the largest face box.

All of it is DuckDB's, in this process; only reading, what is odd in a column, and writing are Arrow's.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from common.hashing import sha256_of_bytes
from common.progress import say
from common.settings import RecipeError
from curation.recipe.recipe import Recipe
from curation.run_directory.candidates import (
    SELECTED_COUNTS,
    buckets_of,
    selected_counts,
    what_the_sort_did,
    with_texts,
)
from curation.run_directory.run import Run
from curation.run_directory.schemas import CANDIDATE, SELECTED, UNRANKED_CANDIDATE, SelectedCounts
from curation.sources.database import Database
from curation.sources.digest import table_digest
from curation.sources.join import CANDIDATES_SQL, read_faces, read_others

WORK = "work/sources"  # of a run: what does not fit into memory, removed when the selection is written
WRITERS = 4  # files that are written at the same time
# larger is better; null where the sources give no size
KEYS = {
    "box_min_side": "side",
    "box_area": "area",
    "image_area": "CASE WHEN width > 0 AND height > 0 THEN width::BIGINT * height END",
    "image_min_side": "CASE WHEN width > 0 AND height > 0 THEN least(width, height) END",
}
RANKS_SQL = """
    CREATE TABLE ranks AS
    SELECT id, key, row_number() OVER (ORDER BY key DESC NULLS LAST, id) - 1 AS rank
    FROM (SELECT id, {key} AS key FROM {sized})
"""


def wanted_and_selected(recipe: Recipe, pool: int, sized: int) -> tuple[int, int]:
    """How many images the recipe wants, and how many are fetched to have them.

    Raises:
        RecipeError: the pool cannot reach the count, with the numbers.
    """
    select = recipe.select
    wanted = select.count if select.count is not None else math.floor(select.fraction * pool)
    if wanted < 1 or wanted > sized:
        asked = f"count {select.count:,}" if select.count else f"fraction {select.fraction} = {wanted:,} images"
        unsized = f", of which {pool - sized:,} have no {select.key}" if sized < pool else ""
        raise RecipeError(
            f"select: {asked} cannot be reached: the sources hold {pool:,} candidates{unsized}. "
            "Lower the count, or add sources"
        )
    spare = select.overprovision if select.rank_over == "available" else 1.0
    return wanted, min(sized, math.ceil(round(wanted * spare, 6)))


def select(run: Run, recipe: Recipe) -> SelectedCounts:
    """The select step: sources -> candidates/ with ranks, and selected/ in id order. Returns the counts.

    Done before: nothing is read again.
    """
    if run.exists(SELECTED_COUNTS):
        counts = selected_counts(run)
        say("select", f"done before: {counts['selected']:,} of {counts['candidates']:,} candidates; not done again")
        return counts
    for folder in (WORK, "candidates", "selected"):  # of a selection that was killed: perhaps of other files
        if run.exists(folder):
            run.remove_folder(folder)
    with run.emptied(WORK), run.scratch(WORK) as spill, Database(spill, recipe.select.memory_gb) as database:
        return _select(run, recipe, database)


def _select(run: Run, recipe: Recipe, database: Database) -> SelectedCounts:
    built: dict[str, Any] = read_faces(database, recipe)
    pool = built["candidates"]
    of_images = recipe.select.key.startswith("image_")
    if not of_images:  # told before the other sources are read
        wanted_and_selected(recipe, pool, pool)
    built |= read_others(database, recipe)
    key = KEYS[recipe.select.key]
    database.do(RANKS_SQL.format(key=key, sized="images LEFT JOIN sizes USING (id)" if of_images else "images"))
    sized = database.one("SELECT count(key) AS sized FROM ranks")["sized"]
    wanted, count = wanted_and_selected(recipe, pool, sized)
    cutoff = float(database.one(f"SELECT key FROM ranks WHERE rank = {count - 1}")["key"])

    buckets = max(1, min(512, built["rows"] // 50_000 + (built["rows"] > 100)))
    in_hq = "published.id IS NOT NULL" if recipe.sources.hq4m else "NULL::BOOLEAN"
    ranked = buckets_in(database.stream(CANDIDATES_SQL.format(in_hq=in_hq)), buckets)
    written = list(_written(run, ranked, count))
    total = {name: sum(row[name] for row in written) for name in ("merged", "laion_matched", "hq_matched", "selected")}
    assert total.pop("selected") == count
    dropped = built.pop("dropped")
    if repeated := built["rows"] - sum(dropped.values()) - total["merged"]:
        dropped["duplicate_row"] = repeated
    built |= {**total, "buckets": buckets, "dropped": dict(sorted(dropped.items()))}
    say(
        "select",
        f"{built['rows']:,} source rows: {built['merged']:,} faces of {pool:,} candidates, {sum(dropped.values()):,} dropped",
    )
    run.write_json("candidates/counts.json", built)
    counts: SelectedCounts = {
        "digest": sha256_of_bytes("".join(row["digest"] for row in written).encode())[:16],
        "candidates": pool,
        "wanted": wanted,
        "selected": count,
        "key": recipe.select.key,
        "rank_over": recipe.select.rank_over,
        "cutoff": cutoff,
    }
    run.write_json(SELECTED_COUNTS, counts)
    say(
        "select",
        f"{count:,} to fetch for {wanted:,} wanted, {recipe.select.key} at least {cutoff:g}: {what_the_sort_did(counts)}",
    )
    return counts


def buckets_in(batches: Iterable[pa.RecordBatch], buckets: int) -> Iterator[tuple[int, pa.Table]]:
    """Rows that come in the order of their ids, which are numbers, by bucket."""
    parts = (part for batch in batches for part in _split(pa.Table.from_batches([batch]), buckets))
    for bucket, tables in itertools.groupby(parts, key=lambda part: part[0]):
        yield bucket, pa.concat_tables([table for _, table in tables])


def _split(rows: pa.Table, buckets: int) -> Iterator[tuple[int, pa.Table]]:
    of = buckets_of(rows["id"], buckets)
    edges = [0, *(np.flatnonzero(np.diff(of)) + 1), len(of)]
    for start, stop in itertools.pairwise(edges):
        if stop > start:
            yield int(of[start]), rows.slice(start, stop - start)


def _written(run: Run, tables: Iterable[tuple[int, pa.Table]], count: int) -> Iterator[dict[str, Any]]:
    """Write each bucket's candidates, and those of them whose rank is below `count`; what was written, in their order."""
    with ThreadPoolExecutor(WRITERS) as writers:
        waiting: deque[Future[dict[str, Any]]] = deque()
        for bucket, table in tables:
            if len(waiting) >= WRITERS:
                yield waiting.popleft().result()
            waiting.append(writers.submit(_write, run, bucket, table, count))
        while waiting:
            yield waiting.popleft().result()


def _write(run: Run, bucket: int, rows: pa.Table, count: int) -> dict[str, Any]:
    rows = with_texts(rows).cast(CANDIDATE)
    run.write_table(f"candidates/{bucket:05d}.parquet", rows)
    chosen = rows.filter(pc.less(rows["rank"], count))
    run.write_table(f"selected/{bucket:05d}.parquet", chosen.select(SELECTED.names))
    return {
        "merged": pc.sum(pc.list_value_length(rows["faces"])).as_py(),
        "laion_matched": rows.num_rows - rows["sample_id"].null_count,
        "hq_matched": pc.sum(rows["in_hq"]).as_py() or 0,
        "selected": chosen.num_rows,
        # what the sources say of these images goes into their samples: it is part of the content recipe
        "digest": table_digest(chosen.select(UNRANKED_CANDIDATE.names)),
    }
