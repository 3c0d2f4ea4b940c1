"""Pilots of a finished run tell what the whole of it has."""

from __future__ import annotations

from pathlib import Path

from curation.ledger.read import read_ledger
from curation.planning.facts import read_facts
from curation.planning.spans import Draws, Span
from curation.planning.yields import yields_of
from curation.run_directory.candidates import selected_counts
from curation.run_directory.run import Run
from tests.curation.planning.coverage import held, truth_of

PILOTS = range(20)


def test_the_facts_are_the_ledgers(finished: Path):
    run = Run(finished)
    facts, counts = read_facts(run, "small"), selected_counts(run)
    ledger = read_ledger(run)
    assert len(facts) == counts["selected"]
    assert facts.taken.sum() == ledger.snapshot["taken"] and facts.fetched.sum() == ledger.snapshot["fetched"]
    packed = sum(run.size(path) for path in run.glob("shards/small/*.tar"))
    # a tar ends with two empty blocks, and is a multiple of 10,240 bytes
    assert 0 <= packed - facts.sample.sum() <= 10_240 * len(run.glob("shards/small/*.tar"))


def test_nine_of_ten_pilots_hold_the_truth(finished: Path):
    run = Run(finished)
    facts = read_facts(run, "small")
    counts = held(facts, selected_counts(run)["wanted"], len(facts) * 2 // 3, PILOTS)
    assert sum(counts.values()) >= 0.9 * len(PILOTS) * len(truth_of(facts)), counts
    assert min(counts.values()) >= 0.75 * len(PILOTS), counts


def test_a_pilot_of_all_images_is_the_run(finished: Path):
    run = Run(finished)
    facts, draws = read_facts(run, "small"), Draws(0)
    found = yields_of(facts, draws.constant(len(facts)), None, draws)
    for name in ("attempts", "fetched", "kept", "packed", "came", "samples"):
        assert Span.of(getattr(found, name)).value == truth_of(facts)[name], name
