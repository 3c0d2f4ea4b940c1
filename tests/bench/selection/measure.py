"""Core-seconds of `select` beside those of baseline.sql, each in a process of its own, on the same made sources."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import duckdb

from common.progress import say
from tests.bench.duel import Bench
from tests.bench.selection.made_sources import make_sources

FACES, LAION, ROUNDS = 1_300_000, 5_000_000, 3
SHARE = 0.76  # of FaceCaption's rows, as the recipe takes 10M of 13.2M
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


def _told_rows(out: str, table: str) -> tuple[int, int]:
    """How many rows a table has, and a number that is made of all that they say."""
    path = f"{out}/{table}/*.parquet" if Path(f"{out}/{table}").is_dir() else f"{out}/{table}.parquet"
    query = f"SELECT count(*), sum(hash(rows)::HUGEINT) FROM read_parquet('{path}') AS rows"
    return tuple(duckdb.sql(query).fetchall()[0])


def _child(*arguments: str) -> Told:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.selection.sides", *arguments],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])
