"""The resolution sort: an exact, deterministic top-K over all candidates.

The paper sorted FaceCaption-15M "by resolution" and took the top 10 million; of what, it does not say. FaceCaption
itself means the face crop when it says resolution, so the default key is the shorter side of the largest face box.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from common.hashing import canonical_json, sha256_of_bytes
from common.progress import say
from common.settings import RecipeError
from curation.recipe.recipe import Recipe
from curation.run_directory.candidates import SELECTED_COUNTS, id_numbers, selected_counts
from curation.run_directory.run import Run
from curation.run_directory.schemas import SELECTED, SelectedCounts
from curation.sources.join import build_candidates
from curation.sources.row_groups import WORK


def sort_key(candidates: pa.Table, key: str) -> np.ndarray:
    """float64 (rows,): larger is better; NaN where the source gives no size."""
    if key.startswith("image_"):
        width = candidates["width"].to_numpy(zero_copy_only=False).astype(np.float64)
        height = candidates["height"].to_numpy(zero_copy_only=False).astype(np.float64)
        known = (width > 0) & (height > 0)
        size = width * height if key == "image_area" else np.minimum(width, height)
        return np.where(known, size, np.nan)
    faces = candidates["faces"].combine_chunks()
    boxes = faces.flatten().field("box")
    corners = boxes.flatten().to_numpy(zero_copy_only=False).astype(np.float64).reshape(-1, 4)
    sides = corners[:, 2:] - corners[:, :2]
    size = sides.min(axis=1) if key == "box_min_side" else sides.prod(axis=1)
    starts = faces.offsets.to_numpy()[:-1] - faces.offsets.to_numpy()[0]
    return np.maximum.reduceat(size, starts) if len(starts) else np.zeros(0)


def ranks(ids: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """int64 (rows,): the place of each row when sorted by key, best first; ties by id; NaN last."""
    order = np.lexsort((ids, -np.nan_to_num(keys, nan=-np.inf)))
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    return place


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

    Needs a running Ray. Done before: nothing is read again.
    """
    if run.exists(SELECTED_COUNTS):
        counts = selected_counts(run)
        say("select", f"done before: {counts['selected']:,} of {counts['candidates']:,} candidates; not done again")
        return counts
    for folder in (WORK, "candidates", "selected"):  # of a selection that was killed: perhaps of other files
        if run.exists(folder):
            run.remove_folder(folder)
    built = build_candidates(run, recipe)
    say(
        "select",
        f"{built['rows']:,} source rows: {built['merged']:,} faces of {built['candidates']:,} candidates, "
        f"{sum(built['dropped'].values()):,} dropped",
    )
    files = run.glob(f"{WORK}/merged/*.parquet")

    def keys_of(row: dict[str, Any]) -> dict[str, Any]:
        table = run.read_table(row["item"])
        ids = id_numbers(table["id"])
        return {"file": row["item"], "ids": ids, "keys": sort_key(table, recipe.select.key)}

    if not files:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in built["dropped"].items()) or "there is none"
        raise RecipeError(
            f"sources.facecaption: no row of {', '.join(recipe.sources.facecaption)} can be used, of "
            f"{built['rows']:,}: {reasons}. docs/curation.md says what the columns hold"
        )
    tables = ray.data.from_items(files, override_num_blocks=len(files)).map(keys_of).take_all()
    tables.sort(key=lambda row: row["file"])
    ids = np.concatenate([row["ids"] for row in tables])
    keys = np.concatenate([row["keys"] for row in tables])
    place = ranks(ids, keys)
    wanted, count = wanted_and_selected(recipe, len(ids), int(np.isfinite(keys).sum()))
    place_ref = ray.put(place)
    starts = np.concatenate([[0], np.cumsum([len(row["ids"]) for row in tables])])

    def write(row: dict[str, Any]) -> dict[str, int]:
        table = run.read_table(row["file"])
        mine = ray.get(place_ref)[row["start"] : row["start"] + table.num_rows]
        ranked = table.append_column("rank", pa.array(mine, pa.int64()))
        bucket = row["file"].rsplit("/", 1)[1]
        run.write_table(f"candidates/{bucket}", ranked)
        chosen = ranked.filter(pa.array(mine < count)).select(SELECTED.names)
        run.write_table(f"selected/{bucket}", chosen)
        # what the sources say of these images goes into their samples: it is part of the content recipe
        facts = canonical_json(table.filter(pa.array(mine < count)).to_pylist())
        return {"bucket": bucket, "selected": chosen.num_rows, "digest": sha256_of_bytes(facts.encode())}

    items = [{"file": row["file"], "start": int(start)} for row, start in zip(tables, starts, strict=False)]
    written = ray.data.from_items(items, override_num_blocks=len(items)).map(write).take_all()
    assert sum(row["selected"] for row in written) == count
    cutoff = float(keys[place == count - 1][0])
    run.write_json("candidates/counts.json", {**built, "candidates": len(ids)})
    digests = "".join(row["digest"] for row in sorted(written, key=lambda row: row["bucket"]))
    counts: SelectedCounts = {
        "digest": sha256_of_bytes(digests.encode())[:16],
        "candidates": len(ids),
        "wanted": wanted,
        "selected": count,
        "key": recipe.select.key,
        "rank_over": recipe.select.rank_over,
        "cutoff": cutoff,
    }
    run.write_json(SELECTED_COUNTS, counts)
    run.remove_folder(WORK)
    say("select", f"{count:,} to fetch for {wanted:,} wanted, {recipe.select.key} at least {cutoff:g}")
    return counts
