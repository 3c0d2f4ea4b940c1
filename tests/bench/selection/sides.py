"""Either side of the measurement, in a process of its own: python -m tests.bench.selection.sides ours FOLDER OUT COUNT"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import duckdb

from tests.bench.duel import core_seconds

MEMORY_GB = 4.0  # of DuckDB, on both sides
SQL = Path(__file__).parent / "baseline.sql"


def statements(**values: str) -> list[str]:
    """The baseline's, with its names filled in."""
    text = SQL.read_text()
    for name, value in values.items():
        text = text.replace("${" + name + "}", value)
    return [statement.query for statement in duckdb.extract_statements(text)]


def baseline(folder: str, out: str, count: str) -> None:
    Path(out).mkdir(exist_ok=True)
    connection = duckdb.connect(
        config={
            "memory_limit": f"{MEMORY_GB}GB",
            "temp_directory": f"{out}/spilled",
            "preserve_insertion_order": "false",
        }
    )
    connection.execute("SET enable_progress_bar = false")
    for statement in statements(folder=folder, out=out, count=count):
        connection.execute(statement)


def ours(folder: str, out: str, count: str) -> None:
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


def _measured(side: Callable[..., None], *arguments: str) -> dict[str, float]:
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
