"""Verdicts -> WebDataset shards: deterministic, exactly once.

Same snapshot, same scores, same content recipe: same bytes, for any number of workers, any order, any kill. The
plan says which sample stands where, once; a shard is a pure function of the plan, the scores and the fetched
bytes. Its sidecar is written last: readers trust only shards that have one.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from common.progress import ProgressBar, say
from common.ray_runtime import map_with_tasks
from common.shard_format import ids_hash, publish_shard, write_tar
from common.storage import parquet_bytes
from curation.annotation.annotate import annotations, chosen_faces, encoder_fingerprint, key_of
from curation.cutting.cut import kept_images
from curation.filters.base import Filter
from curation.packing.card import dataset_card
from curation.packing.samples import UnitSamples
from curation.recipe.recipe import Recipe
from curation.run_directory.run import Run
from curation.run_directory.schemas import PLAN
from curation.run_directory.units import Unit, UnitScores, units_of
from curation.versions import SHARD_FORMAT


def make_plan(run: Run, recipe: Recipe, name: str, filters: dict[str, Filter], units: list[Unit]) -> pa.Table:
    """Which sample stands where: kept images in id order (a hash, hence a shuffle). Written once.

    Images that the identity encoder could not embed are left out; `no_identity.json` lists them.
    """
    path = f"cuts/{name}/plan.parquet"
    if run.exists(path):
        return run.read_table(path)
    rows = kept_images(run, name)
    kept = dict(zip(rows["id"].to_pylist(), rows["unit"].to_pylist(), strict=True))
    without = _without_identity(run, recipe, name, units, filters) if recipe.annotate.identity != "none" else []
    ids = sorted(set(kept) - set(without))
    size = recipe.pack.samples_per_shard
    plan = pa.table(
        {
            "id": ids,
            "unit": [kept[text] for text in ids],
            "shard": [row // size for row in range(len(ids))],
            "slot": [row % size for row in range(len(ids))],
        },
        schema=PLAN,
    )
    run.write_json(f"cuts/{name}/no_identity.json", sorted(without))
    run.write_new(path, parquet_bytes(plan))  # of two drivers one decides
    return run.read_table(path)


def _without_identity(run: Run, recipe: Recipe, name: str, units: list[Unit], filters: dict[str, Filter]) -> list[str]:
    fingerprint = encoder_fingerprint(recipe)

    def of_unit(unit: Unit) -> list[str]:
        known = UnitScores(run, unit, {"faces": filters["faces"]})
        chosen = chosen_faces(run, name, known)
        known_faces = annotations(run, fingerprint, unit.name)
        return [
            text for text, (face, _) in chosen.items() if known_faces[key_of(text, face["box"])]["identity"] is None
        ]

    return [text for ids in map_with_tasks(units, of_unit) for text in ids]


# -- a shard ---------------------------------------------------------------------------------------------------


def write_shard(
    run: Run, recipe: Recipe, name: str, filters: dict[str, Filter], content_hash: str, row: dict[str, Any]
) -> dict[str, Any]:
    """One shard and, last, its sidecar. `row`: `shard`, the aligned `ids` and `units_of_ids`, and `units`."""
    stem = f"shards/{name}/{row['shard']:05d}"
    units = {unit.name: UnitSamples(run, recipe, name, unit, filters, content_hash) for unit in row["units"]}
    samples = (
        (sample_id, units[unit].members(sample_id))
        for sample_id, unit in zip(row["ids"], row["units_of_ids"], strict=True)
    )
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "shard.tar"
        with open(path, "wb") as file:
            index = write_tar(file, samples)
        publish_shard(run, stem, path, index, shard=row["shard"], content_hash=content_hash, format=SHARD_FORMAT)
    return {"shard": row["shard"], "samples": len(index)}


def pack(
    run: Run, recipe: Recipe, name: str, snapshot: pa.Table, filters: dict[str, Filter], content_hash: str
) -> dict[str, int]:
    """Write the shards that the plan describes; those that stand there whole are not written again."""
    units = units_of(snapshot)
    plan = make_plan(run, recipe, name, filters, units)
    rows = plan.to_pylist()
    by_name = {unit.name: unit for unit in units}
    todo, done = [], 0
    size = recipe.pack.samples_per_shard
    for number, start in enumerate(range(0, len(rows), size)):
        part = rows[start : start + size]
        ids = [row["id"] for row in part]
        if _stands(run, f"shards/{name}/{number:05d}", ids_hash(ids), content_hash):
            done += 1
        else:
            names = [row["unit"] for row in part]
            needed = [by_name[unit] for unit in sorted(set(names))]
            todo.append({"shard": number, "ids": ids, "units_of_ids": names, "units": needed})
    if todo:
        write = partial(write_shard, run, recipe, name, filters, content_hash)
        with ProgressBar("pack", sum(len(row["ids"]) for row in todo), "samples") as progress:
            for row in map_with_tasks(todo, write):
                progress.advance(row["samples"])
    shards = -(-len(rows) // size)
    sizes = {f"{number:05d}.tar": min(size, len(rows) - number * size) for number in range(shards)}
    run.write_json(f"shards/{name}/sizes.json", sizes)
    run.write_bytes(f"shards/{name}/README.md", dataset_card(run, recipe, name, rows, content_hash).encode())
    say("pack", f"{len(rows):,} samples in {shards:,} shards; {len(todo):,} written, {done:,} not written again")
    return {"samples": len(rows), "shards": shards, "written": len(todo)}


def _stands(run: Run, stem: str, plan: str, content_hash: str) -> bool:
    if not run.exists(f"{stem}.json") or not run.exists(f"{stem}.tar"):
        return False
    sidecar = run.read_json(f"{stem}.json")
    whole = run.fs.size(run.path(f"{stem}.tar")) == sidecar["bytes"]
    return whole and sidecar["plan"] == plan and sidecar["content_hash"] == content_hash
