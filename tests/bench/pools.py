"""How busy the pools keep cores and GPUs: the real scoring with sleepers on one machine that is told to be large, and the same
simulated, there to see that it tells the truth, and on clusters.

The bound is that what limits a run, cores or GPUs, is never idle; where both would be full at once, the emptier counts.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from common.cluster.pools import Machine
from common.cluster.runtime import local_ray
from curation.recipe.recipe import Recipe
from tests.bench.duel import Bench
from tests.bench.memory import bare_recipe
from tests.bench.simulated import shares, simulated
from tests.bench.sleepers import Work, scored
from tests.rehearsal.pool import passing_pool

BOX = Machine(16, 1)
WORKS = {
    "cores and GPU alike": Work(decode=0.2, cpu=0.12, gpu=0.02),
    "cores limit": Work(decode=0.2, cpu=0.12, gpu=0.008),
    "the GPU limits": Work(decode=0.08, cpu=0.04, gpu=0.02),
}
UNITS, UNIT = 8, 500  # measured
WHOLE_UNIT = 1000  # images, as a recipe has it: at the end of a unit there is nothing ahead
CLUSTERS = {
    "64 CPUs + 4 GPUs": [BOX] * 4,
    "64 CPUs + 4 GPUs in one": [Machine(64, 4)],
    "1,024 CPUs + 64 GPUs": [BOX] * 64,
}
GOAL = 0.9


def bench() -> Bench:
    bench = Bench(f"pools: {BOX.cpus} CPUs and {BOX.gpus} GPU told to Ray, sleepers for models; clusters simulated")
    recipe = bare_recipe()
    with local_ray(BOX.cpus, num_gpus=BOX.gpus):
        for name, work in WORKS.items():
            bench_sleepers(bench, name, recipe, work, UNITS, UNIT)
        bench_store(bench, recipe, UNITS, UNIT)
    for cluster, machines in CLUSTERS.items():
        for name, work in WORKS.items():
            _row(
                bench,
                f"{cluster}, simulated: {name}",
                _simulated(recipe, work, machines, 3, WHOLE_UNIT),
                work,
                "all busy",
                "",
            )
    return bench


def bench_sleepers(bench: Bench, name: str, recipe: Recipe, work: Work, units: int, unit: int) -> None:
    """On the Ray that is there."""
    with tempfile.TemporaryDirectory(prefix="facemakeup-bench-") as scratch:
        measured = shares(scored(Path(scratch), recipe, work, BOX, units, unit), [BOX])
    beside = _simulated(recipe, work, [BOX], 3, unit)
    _row(bench, f"{BOX.cpus} CPUs + {BOX.gpus} GPU: {name}", measured, work, "simulated", _said(beside))


def bench_store(bench: Bench, recipe: Recipe, units: int, unit: int) -> None:
    """What Ray's object store was given while two operators scored, for each image: its bytes are read where they are needed."""
    two = recipe.model_copy(update={"score": recipe.score.model_copy(update={"split_devices": True})})
    before = created_bytes()
    with tempfile.TemporaryDirectory(prefix="facemakeup-bench-") as scratch:
        scored(Path(scratch), two, Work(0.001, 0.001, 0.001), BOX, units, unit)
    given, jpeg = (created_bytes() - before) / (units * unit), passing_pool(recipe).fetched["size"][0].as_py()
    bench.row(
        "object store, two operators", f"{given:,.0f} B an image", "its JPEG", f"{jpeg:,} B", given / jpeg, most=1.2
    )


def created_bytes() -> int:
    """All bytes that were ever put into the object stores of the Ray that is there."""
    from ray._private.internal_api import get_memory_info_reply, get_state_from_address

    return int(get_memory_info_reply(get_state_from_address()).store_stats.cumulative_created_bytes)


def _simulated(
    recipe: Recipe, work: Work, machines: Sequence[Machine], units_an_actor: int, unit: int
) -> tuple[float, float]:
    actors = sum(machine.gpus for machine in machines) * recipe.score.actors_a_gpu
    return shares(simulated(machines, work, int(actors * units_an_actor), unit, recipe.score.actors_a_gpu), machines)


def _row(bench: Bench, what: str, share: tuple[float, float], work: Work, beside: str, theirs: str) -> None:
    """The ratio is of what limits: of each of the two, how busy it is beside how busy the bound has it, whichever is less."""
    cpu, gpu = (work.decode + work.cpu) / BOX.cpus, work.gpu / BOX.gpus
    full = max(cpu, gpu)
    ratio = min(is_ / (part / full) for is_, part in zip(share, (cpu, gpu), strict=True))
    bench.row(what, _said(share), beside, theirs or _said((cpu / full, gpu / full)), ratio, least=GOAL)


def _said(share: tuple[float, float]) -> str:
    return f"CPU {share[0]:.0%}, GPU {share[1]:.0%}"
