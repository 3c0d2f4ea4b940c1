"""Core-seconds of `select` beside those of baseline.sql, each in a process of its own, on the same made sources."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb

from common.progress import say
from tests.bench.duel import Bench, core_seconds
from tests.bench.selection.made_sources import make_sources

FACES, LAION, ROUNDS = 1_300_000, 5_000_000, 3
SHARE = 0.76  # of FaceCaption's rows, as the recipe takes 10M of 13.2M
MEMORY_GB = 4.0  # of DuckDB, on both sides
SQL = Path(__file__).parent / "baseline.sql"
Told = dict[str, float]


def bench(
    faces: int = FACES, laion: int = LAION, rounds: int = ROUNDS, group: int = 100_000, sources: str | None = None
) -> Bench:
    """The ratio of core-seconds, by the clock, of memory; refuses to tell of it where the two wrote other rows."""
    found = Bench(f"selection, {faces:,} rows of FaceCaption x {laion:,} of LAION-Face, {group:,} a row group")
    with tempfile.TemporaryDirectory(prefix="facemakeup-bench-") as scratch:
        folder = Path(sources or f"{scratch}/sources")
        make_sources(folder, faces, laion, group)
        told: dict[str, list[Told]] = {"ours": [], "baseline": []}
        for _ in range(rounds):
            for side, all_told in told.items():
                all_told.append(_child(side, str(folder), f"{scratch}/{side}", str(int(faces * SHARE))))
                say("bench", f"{side}: " + ", ".join(f"{value:,.1f} {name}" for name, value in all_told[-1].items()))
        for table in ("candidates", "selected"):
            ours, theirs = (_told_rows(f"{scratch}/{side}", table) for side in told)
            assert ours == theirs, f"{table}: {ours} and {theirs} are not the same rows"
            say("bench", f"{table}: the same {ours[0]:,} rows")
    for name, unit, most in (("core-seconds", "core s", 2.0), ("seconds", "s", None), ("MB at most", "MB", None)):
        ours, theirs = (statistics.median(one[name] for one in told[side]) for side in told)
        bench_of = f"select: {name}"
        found.row(bench_of, f"{ours:,.1f} {unit}", "baseline.sql", f"{theirs:,.1f} {unit}", ours / theirs, most=most)
    return found


def statements(**values: str) -> list[str]:
    """The baseline's, with its names filled in."""
    text = SQL.read_text()
    for name, value in values.items():
        text = text.replace("${" + name + "}", value)
    return [statement.query for statement in duckdb.extract_statements(text)]


def _told_rows(out: str, table: str) -> tuple[int, int]:
    """How many rows a table has, and a number that is made of all that they say."""
    path = f"{out}/{table}/*.parquet" if Path(f"{out}/{table}").is_dir() else f"{out}/{table}.parquet"
    query = f"SELECT count(*), sum(hash(rows)::HUGEINT) FROM read_parquet('{path}') AS rows"
    return tuple(duckdb.sql(query).fetchall()[0])


def _child(*arguments: str) -> Told:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.selection.measure", *arguments],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


# -- in a process of its own -------------------------------------------------------------------------------------------


def baseline(folder: str, out: str, count: str) -> None:
    Path(out).mkdir(exist_ok=True)
    connection = duckdb.connect(
        config={
            "memory_limit": f"{MEMORY_GB}GB",
            "temp_directory": f"{out}/spilled",
            "preserve_insertion_order": "false",
        }
    )
    for statement in statements(folder=folder, out=out, count=count):
        connection.execute(statement)


def ours(folder: str, out: str, count: str) -> None:
    import shutil

    from curation.recipe import recipe as recipes
    from curation.run_directory.run import Run
    from curation.sources.join import check_sources
    from curation.sources.top_k import select

    shutil.rmtree(out, ignore_errors=True)
    recipe = recipes.parse(
        {
            "name": "made",
            "sources": {
                "facecaption": [f"{folder}/faces-*.parquet"],
                "laion_face": {"parts": [f"{folder}/part-*.parquet"]},
            },
            "select": {"count": int(count), "rank_over": "metadata", "memory_gb": MEMORY_GB},
        }
    )
    check_sources(recipe)
    select(Run(out), recipe)


def _measured(side: Callable[..., None], *arguments: str) -> Told:
    started = time.perf_counter()
    spent = core_seconds(lambda: side(*arguments))
    held = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return {
        "core-seconds": spent,
        "seconds": time.perf_counter() - started,
        "MB at most": int(held.split()[1]) / 1024,
    }


if __name__ == "__main__":
    print(json.dumps(_measured({"ours": ours, "baseline": baseline}[sys.argv[1]], *sys.argv[2:])))
