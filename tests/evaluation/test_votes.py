"""Votes as a column: shares and intervals with a known answer, and votes that do not count."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from common.hashing import sha256_of_file
from evaluation.sets import Drawn, Method, Reference, SetError
from evaluation.votes import compared_of, open_votes, require_compared, votes_column

PEOPLE = [f"r{number}" for number in range(6)]


def read_votes(files, methods):
    """As the command does it: all votes are looked at before anything is scored."""
    read = open_votes(files)
    require_compared(read, compared_of(methods))
    return votes_column(read, methods)


@pytest.fixture
def methods(tmp_path):
    """Three methods of six references with one prompt."""
    made = []
    for name in ("a", "b", "c"):
        drawn = []
        for person in PEOPLE:
            file = tmp_path / f"{name}-{person}.png"
            file.write_bytes(f"{name} {person}".encode())
            drawn.append(Drawn(Reference(person, tmp_path / f"{person}.jpg"), "snow", "42", file))
        made.append(Method(name, tuple(drawn), ()))
    return made


@pytest.fixture
def votes(methods, tmp_path):
    """A function that writes a file of (reference, left, right, won)."""
    files = {(method.name, item.reference.name): item.file for method in methods for item in method.drawn}

    def write(rows, voter="x"):
        def side(method, person):
            file = files.get((method, person))
            return {"method": method, "sha256": sha256_of_file(file) if file else "0"}

        told = [
            {"reference": person, "prompt": "snow", "seed": "42", "won": won, "left": side(left, person), "right": side(right, person)}
            for person, left, right, won in rows
        ]  # fmt: skip
        file = tmp_path / f"votes-{voter}.json"
        file.write_text(json.dumps({"format": 1, "voter": voter, "votes": told}))
        return str(file)

    return write


def test_the_share_of_votes_won_with_a_tie_half(methods, votes):
    rows = [("r0", "a", "b", "left"), ("r0", "b", "a", "right"), ("r0", "a", "b", "right"), ("r1", "a", "b", "tie")]
    cells = read_votes([votes(rows)], methods).cells
    assert cells["a"].estimate.value == pytest.approx(2.5 / 4), "of votes, not the mean of references' means"
    assert cells["b"].estimate.value == pytest.approx(1.5 / 4) and cells["a"].estimate.n == 2
    assert cells["c"].estimate is None and cells["c"].why == "nobody voted on a picture of it"


def test_the_interval_is_that_of_references_drawn_again(methods, votes):
    """r0 to r2 won and r3 to r5 lost, each by a hundred votes: as sure as six references make it, not as six hundred votes."""
    rows = [(person, "a", "b", "left" if place < 3 else "right") for place, person in enumerate(PEOPLE)] * 100
    told = read_votes([votes(rows)], methods).cells["a"].estimate
    assert told.value == 0.5 and told.n == 6
    wins = np.random.default_rng(0).binomial(6, 0.5, 20_000) / 6
    low, high = np.quantile(wins, [0.025, 0.975])
    assert told.low <= low and told.high >= high and told.high - told.low > 0.6
    won = read_votes([votes([(person, "a", "b", "left") for person in PEOPLE])], methods).cells
    assert won["a"].first == 1.0 and not won["b"].close


def test_votes_on_the_same_photo_are_of_one_reference(methods, votes):
    same = [
        replace(method, drawn=tuple(replace(item, reference=replace(item.reference, same_as="r0")) for item in method.drawn))
        for method in methods
    ]  # fmt: skip
    told = read_votes([votes([(person, "a", "b", "left") for person in PEOPLE])], same).cells["a"].estimate
    assert told.value == 1 and told.n == 1 and not told.has_interval


def test_several_voters_are_one_column_and_a_voter_counts_once(methods, votes):
    files = [votes([("r0", "a", "c", "left")], "x"), votes([("r0", "a", "c", "right")], "y")]
    column = read_votes(files, methods)
    assert column.cells["a"].estimate.value == 0.5 and "2 blind votes by 2 people" in column.figure.says
    with pytest.raises(SetError, match="two files are of one voter"):
        read_votes([files[0], files[0]], methods)


def test_a_vote_on_a_picture_that_has_changed_does_not_count(methods, votes, capsys):
    file = votes([("r0", "a", "b", "left"), ("r1", "a", "b", "left")])
    methods[0].drawn[0].file.write_bytes(b"another picture")
    column = read_votes([file], methods)
    assert column.cells["a"].estimate.n == 1 and "1 more do not count" in column.figure.says
    assert "1 votes do not count" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["[]", "{", '{"format": 2, "voter": "x", "votes": []}', None])
def test_a_file_that_holds_no_votes(methods, tmp_path, text):
    if text is not None:
        (tmp_path / "votes.json").write_text(text)
    with pytest.raises(SetError, match="votes.json: is no file of votes"):
        read_votes([str(tmp_path / "votes.json")], methods)


def test_votes_of_other_methods_are_refused(methods, votes):
    with pytest.raises(SetError, match="zoe's picture of r0 snow 42, which is not compared here"):
        read_votes([votes([("r0", "zoe", "a", "left")])], methods)


def test_votes_on_a_method_that_could_not_draw_this_time_do_not_count(methods, votes):
    file = votes([("r0", "a", "b", "left"), ("r1", "a", "c", "left")])
    now = [methods[0], Method("b", (), (), absent="its weights are gone"), methods[2]]
    column = votes_column(open_votes([file]), [method for method in now if not method.absent])
    assert column.cells["a"].estimate.n == 1 and "1 more do not count" in column.figure.says
