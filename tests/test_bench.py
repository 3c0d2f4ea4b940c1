"""The benchmarks run and say what was reached; what the figures are is no matter of a test."""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from tests.bench import __main__ as benches
from tests.bench import memory, selection
from tests.bench.curation import bench_tar
from tests.bench.duel import Bench
from tests.bench.loading.loader import bench_loader, bench_reading, bench_seeking
from tests.bench.selection.normalised import image_id, urls_of_every_kind
from tests.bench.selection.sides import statements
from tests.bench.training import Size, inputs
from tests.rehearsal.make import make_run
from tests.rehearsal.pool import passing_pool

TINY = Size(shards=(4, 4), side=64, size=64, micro=2)


def rows_of(bench: Bench) -> list[list[str]]:
    columns = [list(column.cells) for column in bench.table.columns]
    return [list(row) for row in zip(*columns, strict=True)]


@pytest.mark.parametrize(
    ("ratio", "goal", "said"),
    [(1.2, {"least": 1.0}, "at least 1: met"), (0.9, {"least": 1.0}, "at least 1: [bold]missed[/]"),
     (1.2, {"most": 1.1}, "at most 1.1: [bold]missed[/]"), (1.0, {"least": 0.98, "most": 1.02}, "at least 0.98: met, at most 1.02: met"),
     (3.0, {}, "")],
)  # fmt: skip
def test_a_goal_is_met_or_missed(ratio, goal, said):
    bench = Bench("made")
    bench.row("what", "1", "beside", "1", ratio, **goal)
    assert rows_of(bench)[0][4:] == [f"{ratio:.2f}", said]


def test_a_part_that_is_not_there_is_refused(capsys):
    assert benches.main(["trainign"]) == 2
    assert (
        "the parts are curation, evaluation, forecast, memory, pools, rehearsal, scoring, selection, training"
        in capsys.readouterr().err
    )


def test_the_drivers_steps_run_over_a_made_run(tmp_path):
    recipe = memory.bare_recipe()
    run = make_run(tmp_path, 2500, recipe, passing_pool(recipe))
    for step in memory.DRIVER.values():
        step(run)


def test_the_baseline_of_selection_knows_the_same_ids():
    """It shares no code with what it is the baseline of: a hundred thousand URLs of every kind, beside Python."""
    urls = urls_of_every_kind(100_000, seed=1)
    with duckdb.connect() as connection:
        for macro in statements(count="0"):
            if macro.startswith("CREATE TABLE"):
                break
            connection.execute(macro)
        connection.register("urls", pa.table({"i": range(len(urls)), "url": urls}))
        found = connection.execute("SELECT image_id(url) FROM urls ORDER BY i").fetchall()
    assert [one for (one,) in found] == [image_id(url) for url in urls]


@pytest.mark.parametrize("group", [1000, 100_000])
def test_selection_and_its_baseline_write_the_same_rows(group):
    bench = selection.bench(faces=6000, laion=20_000, rounds=1, group=group)  # it asserts so
    assert [row[0] for row in rows_of(bench)] == ["select: core-seconds", "select: seconds", "select: MB at most"]


def test_the_cheapest_rows_of_each_part_are_measured(tmp_path):
    bench = Bench("made")
    bench_tar(bench, [np.random.default_rng(0).bytes(2000)] * 8)
    given, _ = inputs(tmp_path, TINY)
    bench_loader(bench, given, rounds=1, workers=(0,))
    bench_reading(bench, given, rounds=1)
    bench_seeking(bench, shards=10, samples=100, rounds=1)
    rows = rows_of(bench)
    assert len(rows) == 1 + 1 + 3 + 2
    assert all(float(row[4]) > 0 for row in rows if row[4] != "absent")
