"""Kills curation at random moments, on a disk and on a faulty S3: `make chaos [KILLS=20] [SEED=0] [ON=disk,s3]`.

One run is left alone. Then runs over the same world are hit: the driver, a worker or a raylet is ended by SIGKILL while a
step's work is under way: fetch, score, annotate or pack, each once in a run. A kill counts only if the victim, stopped for
a look, was at that work: by the title that Ray gives its workers, by the driver's log, and by the files that came before
it and after it; others are drawn again. A killed driver is started again with the same command; of a killed worker or
raylet the driver must hear by itself. What a run ends with must be what the run has that nobody touched.

The S3 server answers 503 to every third request, is slow, cuts bodies and loses answers (faulty_store.py).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

import tests.conftest  # noqa: F401  the environment of the tests: nothing of it asks the network
from tests.chaos.cluster import own_cluster
from tests.chaos.comparison import Reference, orphans, problems
from tests.chaos.faulty_store import faulty_bucket
from tests.chaos.kills import STEPS, Kill, Place, Striker, draw_kills
from tests.chaos.runs import Driven, World, begun, disturbed, undisturbed

MOST_RUNS = 3  # times as many as would do, if each kill found its victim at once
console = Console(width=None if sys.stdout.isatty() else 180, highlight=False)


@contextlib.contextmanager
def store_of(kind: str, folder: Path, seed: int) -> Iterator[tuple[Path | str, object, dict[str, str]]]:
    if kind == "disk":
        yield folder, None, {}
        return
    with faulty_bucket("chaos", seed=seed) as (store, environment):
        yield "s3://chaos", store, environment
        console.print(f"s3: {store.told()}")


def hit_all(
    kind: str, kills: list[Kill], striker: Striker, world: World, untouched: Path, expected: Reference, seed: int
) -> bool:
    """Place all kills on one kind of store, a few in each run; whether each was placed and each run ended well."""
    from curation.run_directory.run import Run

    folder, good = world.folder / kind, True
    with store_of(kind, folder, seed) as (root, store, environment):
        waiting, most = list(kills), MOST_RUNS * -(-len(kills) // len(STEPS))
        for number in range(most):
            if not waiting:
                break
            name = f"{kind}-{number}"
            mine = [next((kill for kill in waiting if kill.step == step), None) for step in STEPS]
            place = Place(f"{root}/{name}", store)
            run = Run(place.root)
            begun(run, Run(untouched))
            began = time.monotonic()
            with (
                world.recipe(name) as recipe,
                contextlib.closing(Driven(place, recipe, striker.cluster.address, environment)) as driven,
            ):
                hit, wrong = disturbed(driven, [kill for kill in mine if kill], striker)
            wrong += problems(run, expected)
            good &= not wrong
            for kill in hit:
                kill.run, kill.result = name, wrong[0][:60] if wrong else "the same bytes"
            waiting = [kill for kill in waiting if kill not in hit]
            tell(name, time.monotonic() - began, hit, max(0, orphans(run) - expected.orphans), wrong)
    for kill in waiting:
        kill.result = f"could not be placed: {kill.missed[-1] if kill.missed else 'no run was left'}"
    return good and not waiting


def tell(name: str, seconds: float, hit: list[Kill], tars: int, wrong: list[str]) -> None:
    """One run, as soon as it has ended."""
    kills = ", ".join(f"{kill.kind} while {kill.step} ({kill.done} of {kill.total})" for kill in hit)
    left = f"; {tars} tars left that no table names" if tars else ""
    result = "; ".join(wrong) or "the same bytes"
    console.print(f"{name}: {seconds:.0f} s; killed: {kills or 'nobody'}{left}: {result}", markup=False)


def table_of(kills: dict[str, list[Kill]], seed: int) -> Table:
    table = Table(title=f"{sum(map(len, kills.values()))} kills, seed {seed}")
    for head in ("kill", "run", "step", "files", "hit", "pid", "the log's last line", "then", "result"):
        table.add_column(head, justify="right" if head in ("kill", "files", "pid") else "left", overflow="fold")
    for mine in kills.values():
        for kill in mine:
            row = (
                str(kill.number), kill.run, kill.step, f"{kill.done} of {kill.total}", kill.title, str(kill.pid),
                kill.said[:60], kill.after, kill.result,
            )  # fmt: skip
            table.add_row(*(text.replace("[", "\\[") for text in row))
        table.add_section()
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="on each store")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--on", default="disk,s3", help="disk, s3, or both")
    asked = parser.parse_args()
    stores = asked.on.split(",")
    if asked.kills < 1 or not set(stores) <= {"disk", "s3"}:
        parser.error("--kills: at least 1; --on: disk, s3, or disk,s3")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as ctrl-C: nothing of it stays behind

    # botocore's own patience would hide ours, and s3fs's, and waits for seconds; Ray's workers inherit this
    os.environ.setdefault("AWS_MAX_ATTEMPTS", "1")

    from common.pinned_files.packages import cache_dir
    from curation.run_directory.run import Run
    from curation.sample.folder import make_sample

    sample = cache_dir() / "sample"
    make_sample(sample)
    kills: dict[str, list[Kill]] = {}
    good = True
    with tempfile.TemporaryDirectory(prefix="chaos-") as scratch, own_cluster() as cluster:
        world, untouched = World(sample, Path(scratch) / "world"), Path(scratch) / "undisturbed"
        began = time.monotonic()
        usual = undisturbed(world, cluster, untouched)
        seen = ", ".join(f"{name} {files} files in {seconds:.1f} s" for name, (files, seconds) in usual.items())
        console.print(f"undisturbed: {time.monotonic() - began:.0f} s; {seen}")
        expected = Reference.of(Run(untouched))
        if wrong := problems(Run(untouched), expected):
            console.print(f"the undisturbed run is no measure: {'; '.join(wrong)}", markup=False)
            return 1
        for kind in stores:
            draw = random.Random(f"{asked.seed}/{kind}")
            kills[kind] = draw_kills(asked.kills, draw)
            good &= hit_all(kind, kills[kind], Striker(cluster, draw, usual), world, untouched, expected, asked.seed)
    console.print(table_of(kills, asked.seed))
    missed = Counter(why for mine in kills.values() for kill in mine for why in kill.missed)
    console.print(f"{missed.total()} kills found nothing under way and were drawn again: {dict(missed) or 'none'}")
    console.print(
        "every run ended with the shards of the undisturbed one" if good else "[red]not every run ended well[/]"
    )
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
