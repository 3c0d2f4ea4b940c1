"""The ledger finds every contradiction, by name, and calls nothing a contradiction that is only unfinished."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from curation.ledger.model import Ledger
from curation.ledger.read import read_ledger
from curation.ledger.tables import LedgerError, Tables
from curation.report import main
from curation.reporting import funnel as report_funnel
from curation.reporting import measures as report_scores
from curation.reporting.facts import duplicates, web
from curation.run_directory.candidates import id_texts
from curation.run_directory.run import Run
from tests.curation import fake_run
from tests.curation.fake_images import TWINS


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Run:
    return fake_run.build(str(tmp_path_factory.mktemp("runs") / "whole"))


@pytest.fixture()
def copy(whole: Run, tmp_path: Path) -> Run:
    shutil.copytree(whole.root, tmp_path / "copy")
    return Run(tmp_path / "copy")


def test_every_equation_holds(whole: Run):
    ledger = read_ledger(whole)
    assert [equation.name for equation in ledger.equations if equation.holds is not True] == []
    assert set(fake_run.BREAKS) <= {equation.name for equation in ledger.equations}
    assert len(ledger.kept) == 40 and ledger.no_identity.tolist() == [int(fake_run.name(24), 16)]
    assert ledger.rejected == {"faces": 5, "grayscale": 4, "text": 3, "anime": 2, "caption_box": 2, "no_identity": 1}


def test_a_run_of_an_earlier_format_is_reported_the_same(whole: Run, tmp_path: Path):
    older, ledger = read_ledger(fake_run.build(str(tmp_path), older=True)), read_ledger(whole)
    assert older.reconciles and older.rejected == ledger.rejected and older.steps == ledger.steps
    before, now = report_scores.read_scores(older), report_scores.read_scores(ledger)
    assert len(now.measures) == len(before.measures) > 4
    for one, other in zip(before.measures, now.measures, strict=True):
        assert len(one.ids) and (one.ids == other.ids).all() and (one.values == other.values).all()


@pytest.mark.parametrize("name", fake_run.BREAKS)
def test_a_broken_equation_is_found_and_named(name: str, tmp_path: Path, capsys):
    run = fake_run.build(str(tmp_path), breaks=fake_run.BREAKS[name])
    assert main([run.root, "--no-html"]) == 1
    assert f"✗ {name}" in " ".join(capsys.readouterr().out.split())


def test_unfinished_is_no_contradiction(copy: Run, capsys):
    later_first = ["shards/fake/00002.json", "shards", "cuts/fake/plan.parquet", "cuts/fake/no_identity.json",
                   "annotations", "cuts", next(iter(copy.glob("scores/00-00001-*"))), "scores", "fetched/snapshot.json",
                   "fetched/01", "fetched", "selected/counts.json", "selected", "candidates/counts.json"]  # fmt: skip
    for path in later_first:
        target = Path(copy.path(path))
        shutil.rmtree(target) if target.is_dir() else target.unlink()
        assert main([copy.root]) == 0, path
        ledger = read_ledger(copy)
        assert any(step.state != "done" for step in ledger.steps), path
        out = capsys.readouterr().out
        assert "partial" in out or "not yet" in out
        page = copy.read_bytes("report.html").decode()
        assert "Not finished" in page
    assert "Not yet: cut has not begun" in page and "Not yet: fetch has not begun" in page


def test_a_step_that_holds_more_than_it_may_is_one(copy: Run):
    """A missing shard is unfinished work; one image too many is a mistake at any time."""
    Path(copy.path("shards/fake/00003.json")).unlink()
    sidecar = copy.read_json("shards/fake/00000.json")
    copy.write_json("shards/fake/00000.json", {**sidecar, "samples": 99})
    assert "kept = packed" in [equation.name for equation in read_ledger(copy).broken]


def test_forgotten_samples_are_holes(copy: Run):
    sidecar = copy.read_json("shards/fake/00000.json")
    holed = {**sidecar, "samples": sidecar["samples"] - 1, "index": sidecar["index"][1:]}
    copy.write_json("shards/fake/00000.json", holed)
    assert not read_ledger(copy).reconciles
    copy.write_json("shards/fake/00000.json", {**holed, "revision": 1})
    assert read_ledger(copy).reconciles


def test_a_healing_under_way_is_no_contradiction(copy: Run):
    """Round 2 fetched an image that the snapshot does not know yet."""
    row = copy.read_table("fetched/01/00000.parquet").slice(0, 1).to_pylist()[0]
    dead = next(number for number, error in fake_run.DEAD.items() if error == "timeout")
    new = {**row, "id": fake_run.name(dead), "round": 2, "status": "success", "error": None}
    copy.write_table("fetched/02/00000.parquet", pa.Table.from_pylist([new]))
    assert read_ledger(copy).reconciles
    assert read_ledger(copy).fetched == 64


def test_a_retried_unit_counts_once(copy: Run):
    (path,) = copy.glob("scores/00-00000-*.parquet")
    copy.write_table("scores/00-00000-ffffffffffff.parquet", copy.read_table(path))
    assert read_ledger(copy).reconciles


def test_ids_must_be_ids(copy: Run, capsys):
    copy.write_table("selected/00001.parquet", pa.table({"id": ["short"], "url": ["u"], "rank": [1]}))
    with pytest.raises(LedgerError, match="selected/00001"):
        read_ledger(copy)
    assert main([copy.root, "--no-html"]) == 1


def test_no_such_run_and_no_such_cut(whole: Run, tmp_path: Path, capsys):
    assert main([str(tmp_path / "nothing"), "--no-html"]) == 2
    assert main([whole.root, "--no-html", "--name", "other"]) == 2
    assert "there are: fake" in capsys.readouterr().err


def test_the_funnel_is_exact_when_all_are_audited(whole: Run):
    stages = {stage.name: stage for stage in report_funnel.funnel(read_ledger(whole))}
    counts = [stage.count for stage in stages.values()]
    assert counts == [80, 70, 63, 61, 58, 54, 51, 45, 43, 41, 40, 40]
    assert not any(stage.estimated for stage in stages.values())
    by_check = report_funnel.rejections(read_ledger(whole))
    # one image fails grayscale and text, one text and anime; an undecided one did not go through every check
    assert (by_check.images, by_check.sample) == (57, False)
    assert [(check, fails.hits, only.hits) for check, (fails, only) in by_check.checks.items()] == [
        ("grayscale", 4, 3), ("text", 4, 2), ("faces", 5, 5), ("caption box", 2, 2), ("anime", 3, 2)
    ]  # fmt: skip


def test_the_funnel_is_an_estimate_when_not(tmp_path: Path):
    ledger = read_ledger(fake_run.build(str(tmp_path), audited=0.5))
    truth = {"grayscale": 54, "text": 51, "faces": 45, "caption box": 43, "anime": 41}
    estimates = {stage.name: stage for stage in report_funnel.funnel(ledger) if stage.estimated}
    assert estimates
    for name, stage in estimates.items():
        assert stage.low <= truth[name] <= stage.high and stage.low <= stage.count <= stage.high
    assert report_funnel.rejections(ledger).sample is True
    assert next(stage for stage in report_funnel.funnel(ledger) if stage.name == "kept").count == 40


def test_published_set(whole: Run):
    against = report_funnel.published(read_ledger(whole))
    published = {number for number in range(80) if number % 3}
    failed = set().union(*fake_run.FAILS.values()) | set(fake_run.NO_IDENTITY)
    out = set(fake_run.DEAD) | set(fake_run.UNDECODABLE) | set(fake_run.SURPLUS) | set(fake_run.UNDECIDED)
    judged = set(range(70)) - out
    kept = judged - failed
    assert against.candidates == len(published)
    assert (against.recall.hits, against.recall.of) == (len(kept & published), len(judged & published))
    assert (against.jaccard.hits, against.jaccard.of) == (len(kept & published), len((judged & published) | kept))
    assert against.failing["faces"] == (sum(number in published for number in fake_run.FAILS["faces"]), 5)
    assert sum(against.reasons.values()) == len(published - kept)


def test_the_web_and_its_healing(whole: Run):
    fetching = web(read_ledger(whole))
    assert fetching.healed == {"http_503": 1, "timeout": 1}
    assert fetching.classes["http_404"] == 2 and fetching.classes["timeout"] == 1 and "http_503" not in fetching.classes
    assert [(row.attempts, row.success) for row in fetching.rounds] == [(70, 61), (4, 2)]
    assert sum(host.images for host in fetching.hosts) == 70 and sum(host.fetched for host in fetching.hosts) == 63


def test_duplicates_are_found(whole: Run):
    same_bytes, same_look = duplicates(read_ledger(whole))
    assert [sorted(group) for group in same_bytes.groups] == [
        sorted(int(fake_run.name(number), 16) for number in TWINS)
    ]
    assert same_bytes.surplus == 1 and all(len(group) > 1 for group in same_look.groups)


def test_scalars_agree_with_verdicts(whole: Run):
    """What a panel calls passing is what the cut passed: the same evidence, the same thresholds."""
    ledger = read_ledger(whole)
    scores = report_scores.read_scores(ledger)
    number = scores["prominent"]
    crowd = {int(fake_run.name(n), 16) for n in fake_run.FAILS["faces"]}
    assert set(number.ids[number.values == 2].tolist()) == crowd
    assert set(scores["std"].ids[~scores["std"].passes()].tolist()) == {
        int(fake_run.name(n), 16) for n in fake_run.FAILS["grayscale"]
    }
    passing, failing = report_scores.closest(scores["area"])
    area = scores["area"]
    assert len(failing) == 4 and (area.values[failing] > 0.05).all() and (area.values[passing] <= 0.05).all()
    assert (np.diff(area.values[failing]) >= 0).all() and (np.diff(area.values[passing]) <= 0).all()


def test_a_sample_of_units_is_labelled(whole: Run):
    scores = report_scores.read_scores(read_ledger(whole), limit=30)
    assert scores.sampled and 0 < scores.seen < scores.of and len(scores["std"].ids) <= scores.seen


def test_hosts():
    urls = ["http://A.test:80/x", "https://u:p@b.test?q", "http://[::1]:8/", "nope", None, "http:///x"]
    hosts = Tables().rows("SELECT host_of(authority_of(url)) FROM part", part=pa.table({"url": urls}))
    assert [host for (host,) in hosts] == ["a.test", "b.test", "[::1]", "(none)", "(none)", "(none)"]


def test_the_estimate_is_unbiased_though_filters_stop_early(tmp_path: Path):
    """The face check runs first and stops most images; only the audited say how many of those are grey."""
    rng, rows = np.random.default_rng(3), 20_000
    truth = (rng.random((rows, 5)) > [0.3, 0.1, 0.5, 0.05, 0.02]).astype(np.int8)
    audited, stopped = rng.random(rows) < 0.1, truth[:, 2] == 0
    checks = truth.copy()
    checks[np.ix_(stopped & ~audited, [0, 1, 3, 4])] = -1
    made = Ledger(Run(tmp_path), {}, "made", cut_checks=fake_run.CHECKS)
    for check in fake_run.CHECKS:
        made.tables.execute(f"ALTER TABLE verdicts ADD COLUMN {check} TINYINT")
    table = pa.table({
        "id": np.arange(rows, dtype=np.uint64), "verdict": np.where(truth.all(axis=1), "kept", "rejected"),
        "audited": audited, **dict(zip(fake_run.CHECKS, checks.T, strict=True)),
    })  # fmt: skip
    values = f"id, verdict, NULL, audited, NULL, {', '.join(fake_run.CHECKS)}"
    table = table.set_column(0, "id", id_texts(table["id"].to_numpy()))
    made.tables.insert("verdicts", values, [("made", table)])
    stages = report_funnel.check_stages(made, False)
    for column, stage in enumerate(stages):
        right = int(truth[:, : column + 1].all(axis=1).sum())
        assert stage.low <= right <= stage.high if stage.estimated else stage.count == right
    assert [stage.estimated for stage in stages] == [True, True, False, False, False]
    assert stages[0].high - stages[0].low < 1000
    by_check = report_funnel.rejections(made)
    assert by_check.sample and by_check.images == audited.sum()
    assert all(
        fails.interval[0] < rate < fails.interval[1]
        for (fails, _), rate in zip(by_check.checks.values(), [0.3, 0.1, 0.5], strict=False)
    )


def test_what_does_not_fit_in_memory_goes_to_the_folder_for_temporary_files():
    """And not to `.tmp` in the folder that the command was started in."""
    assert Tables().rows("SELECT current_setting('temp_directory')") == [(tempfile.gettempdir(),)]
