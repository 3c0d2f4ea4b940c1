"""A hundredth of the rehearsal: a made run is like the sample's, and every step that reads no pixel goes through it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from curation.cutting.cut import current_pass, read_funnel
from curation.ledger.read import read_ledger
from curation.packing.verify import fault_of
from curation.pipeline import Curation, recipe_of
from curation.planning.facts import read_facts
from curation.report import main as report
from curation.run_directory.run import Run
from curation.run_directory.units import UnitScores, units_of
from tests.curation.planning.coverage import held
from tests.rehearsal.__main__ import main, rehearsal_recipe
from tests.rehearsal.make import make_run
from tests.rehearsal.pool import passing_pool, pool_of, scrambled
from tests.rehearsal.steps import STRICT, scan

ROWS = 100_000


@pytest.fixture(scope="module")
def pool(whole_sample):
    return pool_of(whole_sample, rehearsal_recipe())


@pytest.fixture(scope="module")
def hundredth(pool, ray_cluster, tmp_path_factory) -> Run:
    run = make_run(tmp_path_factory.mktemp("rehearsal") / "run", ROWS, rehearsal_recipe(), pool)
    curation = Curation(run, recipe_of(run))
    for step in ("cut", "annotate"):
        curation.do(step)
    return run


def verdicts(run: Run, name: str) -> pa.Table:
    return run.read_tables(f"{current_pass(run, name)}/*.parquet")


def test_the_numbers_reconcile_at_every_step(hundredth, capsys):
    from tests.rehearsal.steps import plan

    kept = read_funnel(hundredth, "sample")["kept"]
    assert plan(hundredth, recipe_of(hundredth), "sample") == kept > 0.2 * ROWS
    ledger = read_ledger(hundredth)
    assert ledger.reconciles and ledger.fetched == hundredth.read_json("fetched/snapshot.json")["taken"]
    assert report([hundredth.root]) == 0 and "reconciles" in capsys.readouterr().out
    assert hundredth.size("report.html") < 10e6


def test_verdicts_are_distributed_as_the_samples(hundredth, whole_sample):
    """An image of the made run is one of the sample's, drawn at random: of each reason there are as many as chance allows."""
    of_sample = Counter(verdicts(whole_sample, "sample")["reason"].to_pylist())
    images = sum(of_sample.values())
    audited = verdicts(hundredth, "sample")
    made = Counter(audited["reason"].to_pylist())
    assert set(made) <= set(of_sample)
    for reason, count in of_sample.items():
        share, drawn = count / images, audited.num_rows
        assert abs(made[reason] - share * drawn) < 5 * np.sqrt(share * (1 - share) * drawn) + 1, reason
    attempts = hundredth.read_json("fetched/snapshot.json")
    before = whole_sample.read_json("fetched/snapshot.json")
    share = sum(before["failed"].values()) / before["selected"]
    assert abs(sum(attempts["failed"].values()) / ROWS - share) < 0.02


def test_evidence_is_distributed_as_the_samples(hundredth, pool):
    filters = rehearsal_recipe().open_filters()
    units = units_of(hundredth, Curation(hundredth, recipe_of(hundredth)).snapshot())[:20]
    parts = [UnitScores(hundredth, unit, filters) for unit in units]
    seen = np.concatenate([part.evidence["grayscale"].seen for part in parts])
    std = np.concatenate([part.evidence["grayscale"].table["std"].to_numpy() for part in parts])[seen]
    own = pool.evidence["grayscale"]["std"].to_numpy()
    assert stats.ks_2samp(std, own[np.isfinite(own)]).statistic < 0.08
    # no filter is run behind a rejection, but in the audit lane
    tried = [np.concatenate([part.evidence[name].seen for part in parts]).mean() for name in filters]
    assert tried == sorted(tried, reverse=True) and tried[-1] == pytest.approx(pool.tried["anime"].mean(), abs=0.03)


def test_nine_of_ten_pilots_forecast_what_it_holds(hundredth):
    facts = read_facts(hundredth, "sample")
    counts = held(facts, len(facts), 300, range(60))
    # nine of ten, of any ten: of sixty as many as chance allows
    figures = [counts[name] / 60 for name in ("fetched", "taken", "kept", "came", "kept_size")]
    assert np.mean(figures) >= 0.86 and min(figures) >= 0.78, counts


def test_a_stricter_cut_keeps_a_part_and_runs_no_model(hundredth):
    recipe = recipe_of(hundredth, changes=[STRICT])
    Curation(hundredth, recipe, "strict").do("cut")
    before, after = (verdicts(hundredth, name) for name in ("sample", "strict"))
    kept = [set(rows.filter(pa.compute.equal(rows["verdict"], "kept"))["id"].to_pylist()) for rows in (before, after)]
    assert kept[1] < kept[0] and not (after["verdict"].to_numpy(zero_copy_only=False) == "undecided").any()


def test_the_scan_beside_which_a_cut_is_measured_reads_every_image(hundredth):
    coloured = scan(hundredth, recipe_of(hundredth))
    table = verdicts(hundredth, "sample")
    passing = int((table["grayscale"].to_numpy() == 1).sum())
    assert coloured == passing


def test_images_with_bytes_are_packed(ray_cluster, tmp_path):
    recipe = rehearsal_recipe("pack.samples_per_shard=100", "fetch.part_size=100")
    run = make_run(tmp_path / "run", 250, recipe, passing_pool(recipe), image_bytes=1000)
    curation = Curation(run, recipe_of(run))
    for step in ("cut", "annotate", "pack"):
        curation.do(step)
    sidecars = run.glob("shards/sample/0*.json")
    assert len(sidecars) == 3 and [fault_of(run, path)[1] for path in sidecars] == [""] * 3
    assert read_ledger(run).reconciles


def test_the_same_arguments_make_the_same_bytes(tmp_path):
    recipe = rehearsal_recipe("fetch.part_size=20")
    runs = [
        make_run(tmp_path / str(processes), 60, recipe, passing_pool(recipe), processes=processes, image_bytes=1000)
        for processes in (1, 2)
    ]
    files = [run.files() for run in runs]
    assert files[0] == files[1] and len(files[0]) > 10
    assert all(runs[0].read_bytes(path) == runs[1].read_bytes(path) for path in files[0])


def test_what_is_drawn_of_an_id_looks_random():
    drawn = scrambled(np.arange(10_000, dtype=np.uint64), 1) / 2**64
    assert stats.kstest(drawn, "uniform").pvalue > 0.01
    assert not np.array_equal(scrambled(np.arange(9, dtype=np.uint64), 1), scrambled(np.arange(9, dtype=np.uint64), 2))


def test_a_rehearsal_says_what_it_needs(tmp_path, capsys):
    assert main(["1000", "--sample", str(tmp_path / "nothing")]) == 2
    assert "make curate" in capsys.readouterr().err
