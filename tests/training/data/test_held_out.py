"""Which samples are held out: the same for all, photos with another photo of their person first."""

from __future__ import annotations

import pytest

from tests import goldens
from tests.training.ranks import recipe_for
from training.assembly import open_data
from training.data.held_out import HeldOut, held_out_of
from training.data.index import read_index
from training.recipe import Evaluation, RecipeError, load_recipe


@pytest.fixture(scope="module")
def index(shards):
    return read_index(shards, shards.parent / "cache")


def test_nothing_is_held_out_unless_it_is_asked_for(index):
    assert held_out_of(index, Evaluation()) == HeldOut() and not HeldOut().places


def test_photos_of_one_person_come_first_and_what_is_not_here_is_passed_over(index):
    pairs = {index.id(1, 4): index.id(3, 2), index.id(0, 0): "0" * 16, "f" * 16: index.id(0, 1)}
    held = held_out_of(index, Evaluation(references=3, other_photos=pairs))
    assert held.references[0] == (1, 4) and held.targets == ((3, 2), None, None)
    assert held.places == {*held.references, (3, 2)} and len(held.places) == 4
    assert held_out_of(index, Evaluation(every=5, references=3, other_photos=pairs)) == held


def test_photos_are_taken_at_equal_distances_and_never_twice(index):
    held = held_out_of(index, Evaluation(references=4))
    assert held.references == ((0, 7), (1, 8), (2, 2), (3, 9)) and held.targets == (None,) * 4
    middle = index.id(0, 7)
    again = held_out_of(index, Evaluation(references=5, other_photos={middle: index.id(1, 8)}))
    assert again.references[0] == (0, 7) and len(set(again.references)) == len(again.references)


def test_the_order_of_a_run_is_what_it_was(shards, base):
    """What is held out is seen with weight 0: no other sample moves."""
    plain, held = (open_data(recipe_for(shards, base, **more), 1)[1] for more in ({}, {"evaluation__references": 4}))
    assert all(
        (one == other).all() for one, other in zip(plain.slots(3, range(8)), held.slots(3, range(8)), strict=True)
    )


def test_the_people_of_the_tiny_recipe_are_in_the_sample():
    pairs = load_recipe("tiny").evaluation.other_photos
    for file in goldens.FOLDER.glob("sample-*.csv"):
        kept = {row["id"] for row in goldens.read(file) if row["verdict"] == "kept"}
        assert kept >= {*pairs, *pairs.values()}, file


def test_half_of_the_samples_are_too_many(index):
    with pytest.raises(RecipeError, match="is 28 of 56 samples"):
        held_out_of(index, Evaluation(references=28))


def test_an_evaluation_of_nothing_is_refused():
    with pytest.raises(RecipeError, match="every needs references"):
        load_recipe("tiny", ["evaluation={every: 5}"])
