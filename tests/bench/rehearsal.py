"""A hundredth of the full size: cut, recut, report, plan and pack in this process, beside the least that they could cost."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

from curation.annotation.annotate import annotate
from curation.cutting.cut import cut
from curation.packing.pack import make_plan, pack
from curation.recipe.recipe import Recipe
from curation.report import main as report
from curation.run_directory.run import Run
from curation.run_directory.snapshot import require_snapshot
from tests.bench.duel import Bench, core_seconds, duel
from tests.bench.memory import here
from tests.rehearsal.__main__ import SAMPLE, rehearsal_recipe
from tests.rehearsal.make import make_run
from tests.rehearsal.pool import passing_pool, pool_of
from tests.rehearsal.steps import STRICT, scan

ROWS, SIZE = 100_000, 90_000
PACKED = 2_000  # images with bytes


def bench(rows: int = ROWS, packed: int = PACKED) -> Bench:
    bench = Bench(f"{rows:,} made images; core-seconds, tasks in one process")
    recipe = rehearsal_recipe()
    if (SAMPLE / "manifest.json").exists():
        pool = pool_of(Run(SAMPLE), recipe)
        with tempfile.TemporaryDirectory(prefix="facemakeup-bench-") as scratch, here():
            bench_tables(bench, make_run(f"{scratch}/run", rows, recipe, pool, processes=2), recipe)
    else:
        bench.absent("cut, recut, report", "", f"{SAMPLE} is not there: `make curate`")
    with tempfile.TemporaryDirectory(prefix="facemakeup-bench-") as scratch, here():
        bench_pack(bench, Path(scratch), packed)
    return bench


def bench_tables(bench: Bench, run: Run, recipe: Recipe) -> None:
    snapshot, filters = require_snapshot(run), recipe.open_filters()
    strict = rehearsal_recipe(f"thresholds.{STRICT.removeprefix('thresholds.')}")

    def judged(name: str, recipe: Recipe) -> None:
        shutil.rmtree(run.path(f"cuts/{name}"), ignore_errors=True)
        cut(run, recipe, name, snapshot, filters)

    for name, own in (("cut", recipe), ("recut", strict)):
        ours, theirs = duel(
            lambda name=name, own=own: judged(name, own), lambda: scan(run, recipe), rounds=3, clock=core_seconds
        )
        bench.row(f"{name}: {1e6 * ours / snapshot.num_rows:.1f} core-µs an image", f"{ours:.2f} core s",
                  "the same columns, one predicate", f"{theirs:.2f} core s", ours / theirs, most=3.0)  # fmt: skip
    annotate(run, recipe, "cut", snapshot, filters)
    spent = core_seconds(lambda: make_plan(run, recipe, "cut"))
    bench.row("plan of the shards", f"{spent:.2f} core s", "a hundredth of 60 s", "0.60 core s", spent / 0.6, most=1.0)
    reported = core_seconds(lambda: report([run.root, "--name", "cut"]))
    bench.row("report", f"{reported:.1f} core s", "a minute", "60 s", reported / 60, most=1.0)


def bench_pack(bench: Bench, scratch: Path, images: int) -> None:
    """Beside `tar | sha256sum` over as many files of the same size."""
    recipe = rehearsal_recipe("pack.samples_per_shard=500")
    run = make_run(scratch / "run", images, recipe, passing_pool(recipe), surplus=0, image_bytes=SIZE)
    snapshot, filters = require_snapshot(run), recipe.open_filters()
    cut(run, recipe, "made", snapshot, filters)
    annotate(run, recipe, "made", snapshot, filters)
    files = scratch / "files"
    files.mkdir()
    for path in Path(run.root).glob("fetched/00/*.tar"):
        subprocess.run(["tar", "xf", path, "-C", _folder(files / path.stem)], check=True)

    def ours() -> None:
        shutil.rmtree(run.path("shards"), ignore_errors=True)
        pack(run, recipe, "made", snapshot, filters, content_hash="")

    def theirs() -> None:
        subprocess.run(["sh", "-c", f"tar cf - -C {files} . | sha256sum"], check=True, stdout=subprocess.DEVNULL)

    megabytes = images * SIZE / 1e6
    times = duel(ours, theirs, rounds=3, clock=core_seconds)
    bench.rate("pack, a core", "tar | sha256sum", megabytes, "MB", times, least=0.5, per="core s")

    def taken_up() -> None:
        """The same, of which the driver is ended when half of the shards are written."""
        shutil.rmtree(run.path("shards"), ignore_errors=True)
        with patch("curation.packing.pack.map_with_tasks", _half), contextlib.suppress(KeyboardInterrupt):
            pack(run, recipe, "made", snapshot, filters, content_hash="")
        assert 0 < len(run.glob("shards/made/0*.json")) < images // 500
        pack(run, recipe, "made", snapshot, filters, content_hash="")

    halves, whole = duel(taken_up, ours, rounds=3, clock=core_seconds)
    bench.row("pack, ended half-way and taken up", f"{halves:.2f} core s", "undisturbed", f"{whole:.2f} core s",
              halves / whole, most=1.05)  # fmt: skip


def _half(rows: Iterable[Any], function: Callable[[Any], Any]) -> Iterator[Any]:
    rows = list(rows)
    yield from map(function, rows[: len(rows) // 2])
    raise KeyboardInterrupt


def _folder(path: Path) -> Path:
    path.mkdir()
    return path
