"""The guarantees of docs/guarantees.md that need a whole run to be shown."""

from __future__ import annotations

import json
import re

import pytest

from curation import report
from curation.pipeline import Curation, open_curation
from curation.run_directory.run import Run
from tests.world import curate, fork, shard_hashes, shard_ids, small_recipe, verdicts_of

FETCHED = ("candidates", "selected", "fetched")


def test_a_finished_run_reconciles_and_has_every_kept_image_once(finished):
    assert report.main([str(finished), "--no-html"]) == 0
    kept = sorted(text for text, row in verdicts_of(finished).items() if row["verdict"] == "kept")
    without_identity = json.loads((finished / "cuts/small/no_identity.json").read_text())["ids"]
    assert len(kept) > 15
    assert shard_ids(finished) == [text for text in kept if text not in without_identity]


@pytest.mark.parametrize(
    "change",
    [
        ["score.workers=2", "score.order=cheapest", "score.split_devices=true"],
        ["score.audit_minimum=1000", "score.batch=7"],
    ],
    ids=["two operators of two workers, cheapest first", "all audited"],
)
def test_the_same_snapshot_gives_the_same_bytes(finished, small_world, tmp_path, change):
    """Scored afresh, however the work is cut up."""
    root = fork(finished, tmp_path / "run", *FETCHED)
    curate(root, small_world, *change)
    assert shard_hashes(root) == shard_hashes(finished)


def test_the_same_command_again_does_nothing_again(finished, small_world, tmp_path, capsys):
    root = fork(finished, tmp_path / "run", *FETCHED, "scores", "cuts", "annotations", "shards")
    before = {path: path.stat().st_mtime_ns for path in (root / "shards").rglob("*.tar")}
    curate(root, small_world)
    said = capsys.readouterr().err
    assert "select  done before" in said
    assert "0 requests" in said
    assert "model calls: grayscale 0, text 0, faces 0, anime 0" in said
    assert "0 written" in said
    assert {path: path.stat().st_mtime_ns for path in (root / "shards").rglob("*.tar")} == before


def test_a_recut_calls_exactly_the_missing_scores(finished, small_world, tmp_path, capsys):
    root = fork(finished, tmp_path / "recut", *FETCHED, "scores", "cuts", "annotations", "shards")
    stored = score_counts(root)
    recipe_change = ["thresholds.text.max_area=0.5", "thresholds.text.max_boxes=1000"]
    curation = Curation(Run(root), small_recipe(small_world, *recipe_change), "other")
    curation.recut()
    said = capsys.readouterr().err
    afresh = fork(finished, tmp_path / "afresh", *FETCHED)
    curate(afresh, small_world, *recipe_change, name="other")
    took = re.compile(r"score  (\d+\.\d) core-ms an image(; every filter on every image: (\d+\.\d))?")
    of_fresh, of_recut = took.search(capsys.readouterr().err), took.search(said)
    assert of_fresh and 0 < float(of_fresh[1]) < float(of_fresh[3])
    assert of_recut and of_recut[3] is None, "a recut decodes nothing for the first time"
    assert shard_hashes(root, "other") == shard_hashes(afresh, "other")
    # what the recut added is what a fresh run at that threshold needs and the first run had not made
    made = {name: score_counts(root)[name] - stored[name] for name in stored}
    needed = {name: len({*scores_of(afresh, name)} - {*scores_of(finished, name)}) for name in stored}
    assert made == needed
    calls = ", ".join(f"{name} {made[name]}" for name in ("grayscale", "text", "faces", "anime"))
    assert any(made.values()) and f"model calls: {calls}" in said
    assert shard_hashes(root) == shard_hashes(finished), "the first cut stays as it was"
    assert Run(root).manifest()["recipe"] == Run(finished).manifest()["recipe"]
    assert open_curation(str(root), name="other").recipe.thresholds == curation.recipe.thresholds


def test_a_stricter_recut_calls_no_model(finished, small_world, tmp_path, capsys):
    root = fork(finished, tmp_path / "recut", *FETCHED, "scores", "cuts", "annotations", "shards")
    stored = score_counts(root)
    Curation(Run(root), small_recipe(small_world, "thresholds.text.max_area=0.0"), "strict").recut()
    assert "no model is run" in capsys.readouterr().err and score_counts(root) == stored
    assert 0 < len(shard_ids(root, "strict")) < len(shard_ids(root))


def test_a_name_belongs_to_one_content_recipe(finished, small_world):
    from common.settings import RecipeError

    curation = Curation(Run(finished), small_recipe(small_world, "thresholds.text.max_area=0.123"))
    with pytest.raises(RecipeError, match=r"thresholds.text.max_area: .* -> 0.123.*another name"):
        curation.content_hash()


def scores_of(root, name: str) -> list[str]:
    """The ids that a filter scored: one more for each time."""
    table = Run(root).read_tables("scores/*.parquet")
    (column,) = (column for column in table.column_names if column.startswith(f"{name}-"))
    return table.filter(table[column].is_valid())["id"].to_pylist()


def score_counts(root) -> dict[str, int]:
    """Rows, not ids: a score that was made twice would show."""
    return {name: len(scores_of(root, name)) for name in ("grayscale", "text", "faces", "anime")}


def test_a_run_is_compared_with_the_published_set_and_fitted_to_it(sample, small_world, ray_cluster, tmp_path, capsys):
    """With the HQ-4M table given (here an invented one): recall, Jaccard, and thresholds moved towards it."""
    from curation.__main__ import main as command

    root = tmp_path / "run"
    change = [f"sources.hq4m=['{sample}/hq4m/*.parquet']", "select.fraction=0.3", "score.audit_minimum=1000"]
    curate(root, small_world, *change)
    assert report.main([str(root), "--no-html"]) == 0
    said = capsys.readouterr().out
    assert "recall" in said and "Jaccard" in said
    assert command(["calibrate", str(root), "--reference"]) == 0
    assert "agreement with the published set" in capsys.readouterr().out
