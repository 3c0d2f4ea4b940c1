"""The step score: every filter's evidence of every image that was taken, as far as the thresholds ask for it.

Units stream through one or two operators of Ray Data (operator.py). A score that exists is never computed again,
whichever run, kill or cut asked for it.
"""

from __future__ import annotations

import json
from collections import Counter

import pyarrow as pa
import ray

from common.failures.transient import add_retried
from common.onnx_sessions import can_use_gpus
from common.progress import ProgressBar, say
from common.ray_runtime import map_with_actors, map_with_tasks, worker_count
from curation.cutting.audit import audit_limit, audited
from curation.filters.base import Filter
from curation.recipe.recipe import Recipe
from curation.run_directory.run import Run
from curation.run_directory.scores import description_file
from curation.run_directory.units import Unit, UnitScores, units_of
from curation.scoring.operator import ScoringOperator, unresolved


def operators(recipe: Recipe, filters: dict[str, Filter], gpus: float) -> list[tuple[str, list[str]]]:
    """(device, filters) of each operator: one for all on a CPU machine, one a device where there are GPUs."""
    split = recipe.score.split_devices if recipe.score.split_devices is not None else gpus > 0
    if not split:
        return [("gpu" if gpus else "cpu", list(filters))]
    groups: list[tuple[str, list[str]]] = []
    left = dict(filters)
    while left:
        for device in ("cpu", "gpu"):
            ready = [name for name, item in left.items() if item.device == device and not set(item.needs) & set(left)]
            if ready:
                groups.append((device if gpus else "cpu", ready))
                for name in ready:
                    del left[name]
    return groups


def score(run: Run, recipe: Recipe, snapshot: pa.Table, filters: dict[str, Filter]) -> dict[str, int]:
    """Score what is missing for these thresholds. Returns the model calls made, by filter.

    Needs a running Ray. A score that exists is not computed again.
    """
    units = units_of(run, snapshot)
    for item in filters.values():
        if not run.exists(path := description_file(item.column)):
            run.write_json(path, item.describe())
    gpus = ray.cluster_resources().get("GPU", 0)
    if gpus and not can_use_gpus():
        say(
            "score",
            f"{gpus:g} GPUs are there, but this onnxruntime is its CPU build: going on with CPUs. "
            "Install onnxruntime-gpu in its place to use them",
        )
        gpus = 0
    audit = audit_limit(snapshot, recipe.score.audit_share, recipe.score.audit_minimum, recipe.seed)
    calls: Counter[str] = Counter(dict.fromkeys(filters, 0))
    todo, images = _with_work(run, recipe, units, filters, audit)
    if not todo:
        say("score", f"{snapshot.num_rows:,} images not done again; model calls: {_listed(calls)}")
        return dict(calls)
    fingerprints = {name: item.fingerprint for name, item in filters.items()}
    groups = operators(recipe, filters, gpus)
    dataset = ray.data.from_items([unit.as_row() for unit in todo], override_num_blocks=len(todo))
    for device, names in groups:
        arguments = {
            "run": run, "recipe": recipe, "names": names, "fingerprints": fingerprints, "audit": audit,
            "device": device,
        }  # fmt: skip
        gpu, share = device == "gpu", len(groups)
        workers = worker_count(recipe.score.workers, len(todo), gpu, share)
        dataset = map_with_actors(dataset, ScoringOperator, arguments, workers, gpu, share)
    with ProgressBar("score", images) as progress:
        for row in dataset.iter_rows():
            calls.update(json.loads(row["calls"]))
            add_retried(row["retried"])
            progress.advance(len(row["numbers"]) // 8 - row["done_before"])
        before = snapshot.num_rows - images
        say(
            "score",
            f"{images:,} images scored, {before:,} not done again; model calls: {_listed(calls)}; {progress.seconds:.0f} s",
        )
    return dict(calls)


def _with_work(
    run: Run, recipe: Recipe, units: list[Unit], filters: dict[str, Filter], audit: int
) -> tuple[list[Unit], int]:
    """The units that have an image to score, and how many images that is. Loads no model."""
    begun = [unit for unit in units if unit.scores]

    def count(unit: Unit) -> tuple[str, int]:
        known = UnitScores(run, unit, filters)
        audit_lane = audited(known.ids, recipe.seed, audit)
        return known.name, int(unresolved(known, filters, list(filters), recipe.thresholds, audit_lane).sum())

    open_images = {unit.name: len(unit) for unit in units if not unit.scores} | dict(map_with_tasks(begun, count))
    return [unit for unit in units if open_images[unit.name]], sum(open_images.values())


def _listed(calls: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in calls.items())
