"""An image that ends the process that looks at it: it is found, gets a row, and its neighbours are scored."""

from __future__ import annotations

from functools import partial

import pytest

from curation import report
from curation.filters.base import FilterBroken
from curation.scoring import careful
from curation.scoring.careful import run_in_children
from tests.curation.scoring.saboteurs import Sabotaged
from tests.curation.scoring.toy import SHORT, Toy, cannot_load
from tests.world import curate, fork, verdicts_of

FOUND = {
    "decoder:aborts": "killed_decoder",
    "decoder:never_returns": "outlasted_decoder",
    "decoder:sleeps_for_ever": "outlasted_decoder",
    "text:crashes_in_c": "killed_text",
    "text:eats_memory": "killed_text",
}


@pytest.mark.parametrize("name", FOUND)
def test_the_image_that_ends_a_process_is_found(name, monkeypatch):
    if name == "decoder:sleeps_for_ever":  # who works comes to another limit first, however busy the machine is
        monkeypatch.setattr(careful, "STAGE_SECONDS", SHORT)
    told = run_in_children(Toy, {"ids": ["one", name, "two"]})
    assert told == {"one": "scored", name: FOUND[name], "two": "scored"}


def test_who_was_killed_from_outside_is_innocent(tmp_path):
    killed = "text:is_killed_once"
    told = run_in_children(partial(Toy, flag=str(tmp_path / "killed")), {"ids": ["one", killed, "decoder:aborts"]})
    assert (tmp_path / "killed").exists()
    assert told == {"one": "scored", killed: "scored", "decoder:aborts": "killed_decoder"}


def test_who_waits_for_a_store_between_two_stages_has_done_nothing(monkeypatch):
    monkeypatch.setattr(careful, "STAGE_SECONDS", SHORT)
    assert run_in_children(Toy, {"ids": ["a slow store", "one"]}) == {"a slow store": "scored", "one": "scored"}


def test_an_error_that_cannot_be_sent_is_no_images():
    with pytest.raises(FilterBroken, match="ValueError"):
        run_in_children(Toy, {"ids": ["one", "text:raises_what_cannot_be_sent"]})


def test_an_error_of_ours_stays_one():
    with pytest.raises(TypeError, match="a fault of ours"):
        run_in_children(Toy, {"ids": ["one", "text:raises"]})


def test_filters_that_cannot_be_loaded_blame_no_image():
    with pytest.raises(FilterBroken, match="was ended 3 times"):
        run_in_children(cannot_load, {"ids": ["one"]})


def test_a_run_ends_with_a_row_for_each_and_tries_them_never_again(
    finished, small_world, tmp_path, monkeypatch, capsys
):
    """On Ray, whose workers die of them."""
    root = fork(finished, tmp_path / "run", "candidates", "selected", "fetched")
    monkeypatch.setattr("curation.scoring.score.ScoringOperator", Sabotaged)
    curate(root, small_world)
    rows = verdicts_of(root)
    killed = [text for text, row in rows.items() if row["reason"] == "killed_decoder"]
    without_text = [text for text, row in rows.items() if row["reason"] == "text_error"]
    assert killed and without_text
    before = verdicts_of(finished)
    assert {text for text in rows if rows[text]["reason"] != before[text]["reason"]} <= {*killed, *without_text}
    assert report.main([str(root), "--no-html"]) == 0
    capsys.readouterr()
    curate(root, small_world)
    assert "model calls: grayscale 0, text 0, faces 0, anime 0" in capsys.readouterr().err
