"""Memory of the driver's steps and of a scoring worker, beside the same with less of the work: flat, or not.

Each is measured in a process of its own, above what it holds when its modules are loaded.
"""

from __future__ import annotations

import contextlib
import copy
import io
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pyarrow as pa
from PIL import Image

from tests.bench.duel import Bench

ROWS, FEWER = 1_000_000, 200_000
PNGS, SIDES = 10, (8000, 6000)  # 48 Mpx with an alpha channel


def bench() -> Bench:
    """Ratios of the memory with all rows and with fewer; 5 would be memory that grows as they do."""
    bench = Bench(f"memory, {ROWS:,} images beside {FEWER:,}; {PNGS} PNGs of 48 Mpx beside one")
    with tempfile.TemporaryDirectory(prefix="facemakeup-bench-") as scratch:
        for rows in (ROWS, FEWER):
            _child("make", f"{scratch}/{rows}", str(rows))
        for step in DRIVER:
            ours, theirs = (_child(step, f"{scratch}/{rows}") for rows in (ROWS, FEWER))
            bench.row(
                f"driver: {step}", f"{ours:,.0f} MB", "a fifth of it", f"{theirs:,.0f} MB", ours / max(1.0, theirs)
            )
        for images in (PNGS, 1):
            _child("make PNGs", f"{scratch}/png{images}", str(images))
        ours, theirs = (_child("score", f"{scratch}/png{images}") for images in (PNGS, 1))
        bench.row(
            "worker: score", f"{ours:,.0f} MB", "one image", f"{theirs:,.0f} MB", ours / max(1.0, theirs), most=2.5
        )
    return bench


def _child(*arguments: str) -> float:
    """What a step says of itself: MB."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.memory", *arguments], stdout=subprocess.PIPE, check=True, text=True
    )
    return float(done.stdout.split()[-1])


# -- in a process of its own -------------------------------------------------------------------------------------------


def bare_recipe():
    from curation.calibration.calibrate import ROOT
    from curation.recipe import recipe as recipes

    changes = ["annotate.identity=none", "fetch.local_web=null", "select.rank_over=metadata", "score.audit_minimum=0"]
    return recipes.load(ROOT / "curation" / "recipe" / "sample.yaml", [*changes, "fetch.part_size=1000"])


def _snapshot(run) -> None:
    from curation.run_directory.snapshot import write_snapshot

    write_snapshot(run, bare_recipe())


def _requests(run) -> None:
    """What a first round of fetch gives its tasks."""
    from curation.fetch.rounds import _parts_of_round, _with_urls
    from curation.run_directory.candidates import selected_ids

    round_of = _parts_of_round(run, 0, selected_ids(run), bare_recipe().fetch)
    assert round_of and sum(len(items) for _, items in _with_urls(run, *round_of)) == len(round_of[0])


def _cut(run) -> None:
    """And what follows without a model: annotate with no encoder, the plan, what pack gives its tasks."""
    from curation.annotation.annotate import annotate
    from curation.cutting.cut import cut
    from curation.packing.pack import pack
    from curation.run_directory.snapshot import require_snapshot

    recipe = bare_recipe()
    arguments = run, recipe, "made", require_snapshot(run), recipe.open_filters()
    # pack's tasks would read bytes that are not there
    with here(), patch("curation.packing.pack.write_shard", lambda *_: {"samples": len(_[-1].rows)}):
        cut(*arguments)
        annotate(*arguments)
        pack(*arguments, content_hash="")


@contextlib.contextmanager
def here() -> Iterator[None]:
    """What tasks do is done in this process, one after the other."""

    def work(rows, function, **_):
        # each is a copy, as in another process: what a task notes on its unit would stay in this one
        return (function(copy.deepcopy(row)) for row in rows)

    steps = ("cutting.cut", "annotation.annotate", "packing.pack")
    with contextlib.ExitStack() as stack:
        for step in steps:
            stack.enter_context(patch(f"curation.{step}.map_with_tasks", work))
        yield


def _report(run) -> None:
    from curation.ledger.read import read_ledger

    assert read_ledger(run, "made").reconciles


def _score(run) -> None:
    from curation.run_directory.snapshot import require_snapshot
    from curation.run_directory.units import units_of
    from curation.scoring.operator import ScoringOperator

    recipe = bare_recipe()
    names = ["grayscale", "faces"]
    fingerprints = {name: item.fingerprint for name, item in recipe.open_filters().items()}
    (unit,) = units_of(run, require_snapshot(run))
    ScoringOperator(run, recipe, names, fingerprints, 0, "cpu")(unit.as_row())


DRIVER: dict[str, Callable] = {
    "fetch, the requests": _requests,
    "fetch, the snapshot": _snapshot,
    "cut, annotate, pack": _cut,
    "report": _report,
}


def _make_pngs(root: Path, count: int) -> None:
    """A unit of large PNGs, as after fetch."""
    from common.hashing import sha256_of_bytes
    from curation.run_directory.attempts import images_file
    from curation.run_directory.run import Run
    from curation.run_directory.schemas import FETCHED, SNAPSHOT
    from tests.rehearsal.pool import passing_pool

    run, tar = Run(root), "fetched/00/00000-0.tar"
    slope = np.linspace(0, 255, SIDES[0] * SIDES[1] * 4, dtype=np.uint8).reshape(SIDES[1], SIDES[0], 4)
    out = io.BytesIO()
    Image.fromarray(slope, "RGBA").save(out, "PNG", compress_level=1)
    data = out.getvalue()
    run.write_bytes(tar, data * count)
    ids = [f"{number:016x}" for number in range(count)]
    places = [
        {"offset": len(data) * number, "size": len(data), "sha256": sha256_of_bytes(data)} for number in range(count)
    ]
    (candidate,) = passing_pool(bare_recipe()).fetched.to_pylist()
    rows = [{**candidate, "id": text, **place} for text, place in zip(ids, places, strict=True)]
    run.write_table(images_file(tar), pa.Table.from_pylist(rows, schema=FETCHED))
    taken = [{**row, "tar": tar, "unit": "00-00000"} for row in rows]
    run.write_table("fetched/snapshot-5.parquet", pa.Table.from_pylist(taken, schema=SNAPSHOT))
    counts = {"selected": count, "fetched": count, "taken": count, "surplus": 0, "failed": {}, "lost": 0}
    run.write_json("fetched/snapshot.json", {"number": 0, "hash": "5", **counts})


def _peak(function: Callable[[], None]) -> float:
    """MB that this process held at most, above what it held before."""
    status = Path("/proc/self/status")

    def held(line: str) -> float:
        return next(int(row.split()[1]) / 1024 for row in status.read_text().splitlines() if row.startswith(line))

    before = held("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    function()
    return held("VmHWM") - before


def main(step: str, root: str, count: str = "0") -> None:
    import curation.pipeline  # noqa: F401  its modules are no step's
    from curation.run_directory.run import Run
    from tests.rehearsal.make import make_run
    from tests.rehearsal.pool import passing_pool

    if step == "make":
        make_run(root, int(count), bare_recipe(), passing_pool(bare_recipe()), surplus=0)
        print(0)
    elif step == "make PNGs":
        _make_pngs(Path(root), int(count))
        print(0)
    else:
        print(_peak(lambda: {**DRIVER, "score": _score}[step](Run(root))))


if __name__ == "__main__":
    main(*sys.argv[1:])
