"""The pilot: the real steps over a random part of a recipe's candidates, in a run directory that is thrown away."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray

from common.cluster.runtime import connected
from common.onnx_sessions import can_use_gpus
from common.progress import say
from curation.pipeline import STEPS, Curation
from curation.planning.facts import ImageFacts, read_facts
from curation.planning.meter import Meter, StepCost
from curation.planning.population import Overlap
from curation.planning.processes import CoreSeconds
from curation.planning.tables import SourceSlices, slices_of
from curation.progress.outlook import cores
from curation.recipe.recipe import Recipe
from curation.run_directory.candidates import selected_counts
from curation.run_directory.run import Run
from curation.run_directory.schemas import CANDIDATE
from curation.sources.join import check_sources

PARTS = 12  # a step's cost is told from its start's by several results
SHARD = 16  # samples, at least: of fewer a shard's own cost would be most of theirs


@dataclass(frozen=True)
class Pilot:
    """What a pilot found. `slices`: of the sources, `overlap`: of FaceCaption's; `candidates`: of the rows that were looked at; `eligible`: of them those
    that the recipe would fetch, of which the pilot's are a random part; `faces`: rows that these were; `look`: the cost of selecting
    from all slices, `costs`: of the pilot's steps; `part_size`: of its fetch; `cores`, `gpus`: that it had."""

    slices: SourceSlices
    overlap: Overlap
    candidates: int
    eligible: int
    faces: int
    facts: ImageFacts
    look: StepCost
    costs: dict[str, StepCost]
    part_size: int
    cores: float
    gpus: float


def run_pilot(recipe: Recipe, images: int, seed: int) -> Pilot:
    """Do it; a minute for 300 images on two cores, more where hosts do not answer.

    Raises:
        RecipeError, WeightError, FetchStopped: as a run would.
    """
    check_sources(recipe)
    random = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory(prefix="pilot-") as place, CoreSeconds() as core_seconds, connected():
        folder, look = Path(place), Meter(core_seconds)
        slices = slices_of(recipe.sources, folder / "slices", random)
        overlap = Overlap.of(slices.facecaption.files)
        tree = recipe.model_dump(mode="json")
        tree["sources"] = slices.as_sources().model_dump(mode="json")
        sorts = not recipe.select.key.startswith("image_")  # which only the whole of LAION-Face tells
        key = recipe.select.key if sorts else "box_min_side"
        tree["select"] = {"key": key, "fraction": 1.0, "rank_over": "metadata"}
        first = Curation(Run(folder / "look"), Recipe.model_validate(tree))
        with look.step("select"):
            first.do("select")
        candidates = selected_counts(first.run)["candidates"]
        share = fetched_share(recipe, population(slices, overlap, candidates)) if sorts else 1.0
        eligible = max(1, round(share * candidates))
        chosen = _chosen(first.run, eligible, images, random)
        say(
            "pilot",
            f"{chosen.num_rows:,} images of {eligible:,} that {slices.seen:,} of {slices.rows:,} source rows give",
        )
        faces = _as_source(chosen)
        pq.write_table(faces, folder / "chosen.parquet")
        small = _small(tree, recipe, str(folder / "chosen.parquet"), chosen.num_rows)
        curation = Curation(Run(folder / "run"), small)
        costs = measured(curation, core_seconds)
        gpus = ray.cluster_resources().get("GPU", 0.0) if can_use_gpus() else 0.0
        return Pilot(
            slices=slices,
            overlap=overlap,
            candidates=candidates,
            eligible=eligible,
            faces=faces.num_rows,
            facts=read_facts(curation.run, curation.name),
            look=look.cost("select"),
            costs=costs,
            part_size=small.fetch.part_size,
            cores=cores(),
            gpus=gpus,
        )


def measured(curation: Curation, core_seconds: CoreSeconds) -> dict[str, StepCost]:
    """All steps of a run, and what each took."""
    meter = Meter(core_seconds)
    for step in STEPS:
        with meter.step(step):
            curation.do(step)
    return {step: meter.cost(step) for step in STEPS}


def population(slices: SourceSlices, overlap: Overlap, candidates: int) -> float:
    """How many candidates the whole has, where the slices have so many."""
    faces = slices.facecaption
    if faces.is_whole:
        return float(candidates)
    (images,) = overlap.whole(faces.rows, np.ones((1, len(overlap.rows))))
    return max(1.0, images * candidates / max(1, overlap.distinct))


def fetched_share(recipe: Recipe, candidates: float) -> float:
    """Which share of all candidates the recipe fetches."""
    select = recipe.select
    share = select.fraction if select.fraction is not None else (select.count or 0) / candidates
    spare = select.overprovision if select.rank_over == "available" else 1.0
    return float(np.clip(share * spare, 1e-9, 1.0))


def _chosen(run: Run, eligible: int, images: int, random: np.random.Generator) -> pa.Table:
    """Candidates, drawn at random from the `eligible` ones of the highest rank."""
    tables = list(run.read_each(run.glob("candidates/*.parquet"), CANDIDATE.names))
    best = pa.concat_tables([table.filter(pc.less(table["rank"], eligible)) for table in tables])
    drawn = np.sort(random.choice(best.num_rows, min(images, best.num_rows), replace=False))
    return best.take(pa.array(drawn))


def _as_source(candidates: pa.Table) -> pa.Table:
    """Candidates as FaceCaption's rows again, one a face."""
    rows = [
        {"_id": face["source_id"], "url": image["url"], "caption": face["caption"], "box": face["box"],
         "laion_caption": image["laion_caption"]}
        for image in candidates.to_pylist() for face in image["faces"]
    ]  # fmt: skip
    kinds = {name: pa.string() for name in ("_id", "url", "caption", "laion_caption")}
    return pa.Table.from_pylist(rows, schema=pa.schema({**kinds, "box": pa.list_(pa.int64())}))


def _small(tree: dict[str, Any], recipe: Recipe, source: str, images: int) -> Recipe:
    """The recipe for the images that were chosen: all of them, in parts and shards that are small enough to measure."""
    taken = max(1, images)
    audited = max(recipe.score.audit_share, min(1.0, recipe.score.audit_minimum / (recipe.select.count or taken)))
    return Recipe.model_validate(
        {
            **tree,
            "sources": {"facecaption": [source]},
            "fetch": {**tree["fetch"], "part_size": min(recipe.fetch.part_size, max(8, images // PARTS))},
            # as many of them as of the whole
            "score": {**tree["score"], "audit_share": audited, "audit_minimum": 0},
            "pack": {
                **tree["pack"],
                "caption": "face",
                "samples_per_shard": min(recipe.pack.samples_per_shard, max(SHARD, images // (2 * PARTS))),
            },
        }
    )
