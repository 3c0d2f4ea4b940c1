"""The step score: every filter's evidence of every image that was taken, as far as the thresholds ask for it.

Units stream through one or two operators of Ray Data (operator.py). A score that exists is never computed again,
whichever run, kill or cut asked for it.
"""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import ray

from common.cluster.pools import Machine, Pool, cpu_pool, gpu_pool, machines_of, wants_two_operators
from common.cluster.shipped import ShippedWeights
from common.cluster.work import map_with_actors, map_with_tasks
from common.failures.transient import add_retried
from common.onnx_sessions import can_use_gpus
from common.progress import ProgressBar, say
from curation.cutting.audit import audit_limit, audited
from curation.filters.base import Filter
from curation.recipe.recipe import Recipe
from curation.run_directory.run import Run
from curation.run_directory.scores import description_file
from curation.run_directory.units import Unit, UnitScores, units_of
from curation.scoring.careful import DECODER
from curation.scoring.operator import ScoringOperator, unresolved
from curation.scoring.spending import Spending


def operators(recipe: Recipe, filters: dict[str, Filter], machines: list[Machine]) -> list[tuple[str, list[str]]]:
    """(device, filters) of each operator: one for all filters, which share a decode, or where many machines have no GPU
    one a device."""
    gpus = any(machine.gpus for machine in machines)
    split = recipe.score.split_devices if recipe.score.split_devices is not None else wants_two_operators(machines)
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


def score(
    run: Run, recipe: Recipe, snapshot: pa.Table, filters: dict[str, Filter], shipped: ShippedWeights | None = None
) -> dict[str, int]:
    """Score what is missing for these thresholds. Returns the model calls made, by filter.

    Needs a running Ray. A score that exists is not computed again. `shipped`: model files for nodes that lack them.
    """
    units = units_of(run, snapshot)
    for item in filters.values():
        if not run.exists(path := description_file(item.column)):
            run.write_json(path, item.describe())
    machines = _usable(machines_of(ray.nodes()))
    audit = audit_limit(snapshot, recipe.score.audit_share, recipe.score.audit_minimum, recipe.seed)
    spent = Spending(Counter(dict.fromkeys(filters, 0)))
    todo, images = _with_work(run, recipe, units, filters, audit)
    if not todo:
        say("score", f"{snapshot.num_rows:,} images not done again; model calls: {spent}")
        return _model_calls(spent)
    fingerprints = {name: item.fingerprint for name, item in filters.items()}
    groups = operators(recipe, filters, machines)
    dataset = ray.data.from_items([unit.as_row() for unit in todo], override_num_blocks=len(todo))
    for device, names in groups:
        arguments = {
            "run": run, "recipe": recipe, "names": names, "fingerprints": fingerprints, "audit": audit,
            "device": device, "shipped": shipped,
        }  # fmt: skip
        dataset = map_with_actors(
            dataset, ScoringOperator, arguments, pool_of(device, recipe, machines, len(todo), len(groups))
        )
    by_node: Counter[str] = Counter()
    with ProgressBar("score", images) as progress:
        for row in dataset.iter_rows():
            spent.update(Spending.of_row(row))
            add_retried(row["retried"])
            by_node[row["node"]] += 1
            progress.advance(len(row["numbers"]) // 8 - row["done_before"])
        before = snapshot.num_rows - images
        say(
            "score",
            f"{images:,} images scored, {before:,} not done again; model calls: {spent}; {progress.seconds:.0f} s",
        )
        say("score", _cost(spent, filters, images))
        if len(by_node) > 1:
            say("score", f"units of {len(by_node)} nodes: {_listed(by_node)}")
    return _model_calls(spent)


def pool_of(device: str, recipe: Recipe, machines: list[Machine], units: int, operators: int) -> Pool:
    """The actors of one of `operators` operators. Machines with GPUs are the GPU operator's alone, if there are others."""
    asked, memory = recipe.score.workers, 1e9 * recipe.score.memory_gb
    without_gpus = [machine for machine in machines if not machine.gpus]
    share = 1 if 0 < len(without_gpus) < len(machines) else operators
    if device == "gpu":
        return gpu_pool(machines, asked, units, recipe.score.actors_a_gpu, share, memory)
    return cpu_pool(without_gpus or machines, asked, units, share, memory)


def _usable(machines: list[Machine]) -> list[Machine]:
    """The machines as these models can use them: without GPUs where onnxruntime knows none."""
    gpus = sum(machine.gpus for machine in machines)
    if not gpus or can_use_gpus():
        return machines
    say(
        "score",
        f"{gpus:g} GPUs are there, but this onnxruntime is its CPU build: going on with CPUs. "
        "Install onnxruntime-gpu in its place to use them",
    )
    return [Machine(machine.cpus, 0.0, machine.memory) for machine in machines]


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


def _model_calls(spent: Spending) -> dict[str, int]:
    return {name: count for name, count in spent.calls.items() if name != DECODER}


def _cost(spent: Spending, filters: dict[str, Filter], images: int) -> str:
    """What an image took, and what it would have taken without an order that stops at the first rejection."""
    text = f"{1000 * spent.core_seconds / images:.1f} core-ms an image"
    whole = spent.of_all(filters)
    return text if whole is None else f"{text}; every filter on every image: {1000 * whole / images:.1f}"


def _listed(calls: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in calls.items())
