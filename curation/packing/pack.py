"""Verdicts -> WebDataset shards: deterministic, exactly once.

Same snapshot, same scores, same content recipe: same bytes, for any number of workers, any order, any kill. The
plan says which sample stands where, once; a shard is a pure function of the plan, the scores and the fetched
bytes. Its sidecar is written last: readers trust only shards that have one.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from common.cluster.work import map_with_tasks
from common.failures.damage import DamagedFile
from common.progress import ProgressBar, say
from common.settings import RecipeError
from common.shard_format import ids_hash, publish_shard, write_tar
from common.storage import REQUESTS
from curation.annotation.annotate import encoder_fingerprint, folder, no_identity_file
from curation.cutting.cut import GROUP, current_pass, kept_images
from curation.filters.base import Filter
from curation.packing.card import dataset_card
from curation.packing.samples import UnitSamples
from curation.recipe.recipe import Recipe
from curation.run_directory.candidates import id_numbers, id_texts, with_numbers, with_texts
from curation.run_directory.run import Run
from curation.run_directory.schemas import PLAN
from curation.run_directory.scores import score_files
from curation.run_directory.units import Unit, units_of
from curation.versions import SHARD_FORMAT

WORK = "work/pack"  # of a local run: unfinished shards


def make_plan(run: Run, recipe: Recipe, name: str) -> pa.Table:
    """Which sample stands where: kept images in id order (a hash, hence a shuffle). Written once. Returned without what the
    order tells, `shard` and `slot`, and with ids as numbers: it is held as long as shards are written.

    Images that the identity encoder could not embed are left out; `no_identity.json` lists them.

    Raises:
        RecipeError: these verdicts were not annotated yet.
    """
    path = f"cuts/{name}/plan.parquet"
    if not run.exists(path):
        run.write_new(path, _new_plan(run, recipe, name))  # of two drivers one decides
    columns = ["id", "unit", "face", "caption_face"]
    groups = [with_numbers(group) for group in run.read_groups(path, columns)]
    nothing = with_numbers(PLAN.empty_table().select(columns))
    return pa.concat_tables([nothing, *groups]).unify_dictionaries()


def _new_plan(run: Run, recipe: Recipe, name: str) -> bytes:
    """A plan as a parquet file."""
    listed = no_identity_file(name)
    annotated = run.read_json(listed, ("verdicts", "ids")) if run.exists(listed) else {}
    if annotated.get("verdicts") != current_pass(run, name):
        raise RecipeError(
            f"{run.root}: the cut {name!r} was made anew since: `python -m curation annotate` comes first"
        )
    kept = kept_images(run, name)
    if annotated["ids"]:
        kept = kept.filter(pc.invert(pc.is_in(kept["id"], value_set=pa.array(id_numbers(annotated["ids"])))))
    size, written = recipe.pack.samples_per_shard, pa.BufferOutputStream()
    with pq.ParquetWriter(written, PLAN, compression="zstd") as writer:
        for start in range(0, kept.num_rows, GROUP):
            rows = with_texts(kept.slice(start, GROUP))
            place = np.arange(start, start + rows.num_rows, dtype=np.int32)
            rows = rows.append_column("shard", pa.array(place // size)).append_column("slot", pa.array(place % size))
            writer.write_table(rows.select(PLAN.names).cast(PLAN))
    return written.getvalue().to_pybytes()


# -- a shard ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shard:
    """A shard to write: its rows of the plan, and its units, each with the files of its annotations."""

    number: int
    rows: list[dict[str, Any]]
    units: list[tuple[Unit, list[str]]]


def write_shard(
    run: Run, recipe: Recipe, name: str, filters: dict[str, Filter], content_hash: str, shard: Shard
) -> dict[str, Any]:
    """Write one shard and, last, its sidecar."""
    stem = f"shards/{name}/{shard.number:05d}"
    with ExitStack() as stack:
        units = {}
        for unit, annotated in shard.units:
            rows = [row for row in shard.rows if row["unit"] == unit.name]
            samples = UnitSamples(run, recipe, unit, rows, annotated, filters, content_hash)
            units[unit.name] = stack.enter_context(samples)
        samples = ((row["id"], units[row["unit"]].members(row["id"])) for row in shard.rows)
        path = stack.enter_context(run.scratch(WORK)) / "shard.tar"
        with open(path, "wb") as file:
            index = write_tar(file, samples)
        publish_shard(run, stem, path, index, shard=shard.number, content_hash=content_hash, format=SHARD_FORMAT)
    return {"shard": shard.number, "samples": len(index)}


def pack(
    run: Run, recipe: Recipe, name: str, snapshot: pa.Table, filters: dict[str, Filter], content_hash: str
) -> dict[str, int]:
    """Write the shards that the plan describes; those that stand there whole are not written again."""
    plan = make_plan(run, recipe, name)
    size, samples = recipe.pack.samples_per_shard, plan.num_rows
    shards = -(-samples // size)

    def is_done(number: int) -> bool:
        ids = id_texts(plan["id"].slice(number * size, size).to_numpy()).to_pylist()
        return _stands(run, f"shards/{name}/{number:05d}", ids_hash(ids), content_hash)

    with ThreadPoolExecutor(1 if run.is_local else REQUESTS) as requests:
        todo = [number for number, done in enumerate(requests.map(is_done, range(shards))) if not done]
    if todo:
        units = {unit.name: unit for unit in units_of(run, snapshot)}
        annotated = score_files(run, folder(encoder_fingerprint(recipe)))

        def shard(number: int) -> Shard:
            rows = with_texts(plan.slice(number * size, size)).to_pylist()
            names = sorted({row["unit"] for row in rows})
            return Shard(number, rows, [(units[name], annotated.get(name, [])) for name in names])

        write = partial(write_shard, run, recipe, name, filters, content_hash)
        with ProgressBar("pack", sum(min(size, samples - number * size) for number in todo), "samples") as progress:
            for row in map_with_tasks(map(shard, todo), write):
                progress.advance(row["samples"])
    sizes = {f"{number:05d}.tar": min(size, samples - number * size) for number in range(shards)}
    run.write_json(f"shards/{name}/sizes.json", sizes)
    run.write_bytes(f"shards/{name}/README.md", dataset_card(run, recipe, name, samples, content_hash).encode())
    done = shards - len(todo)
    say("pack", f"{samples:,} samples in {shards:,} shards; {len(todo):,} written, {done:,} not written again")
    return {"samples": samples, "shards": shards, "written": len(todo)}


def _stands(run: Run, stem: str, plan: str, content_hash: str) -> bool:
    if not run.exists(f"{stem}.json") or not run.exists(f"{stem}.tar"):
        return False
    try:
        sidecar = run.read_json(f"{stem}.json", ("bytes", "plan", "content_hash"))
    except DamagedFile:
        return False
    whole = run.size(f"{stem}.tar") == sidecar["bytes"]
    return whole and sidecar["plan"] == plan and sidecar["content_hash"] == content_hash
