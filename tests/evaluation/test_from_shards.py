"""References out of shards."""

from __future__ import annotations

import pytest

from evaluation.from_shards import references_from_shards
from evaluation.sets import SetError, open_references
from tests.training.made.shards import make_shards


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return make_shards(tmp_path_factory.mktemp("made") / "shards", [3, 4])


def test_the_first_by_id_with_their_captions_and_the_same_again(shards, tmp_path):
    ids = references_from_shards(shards, tmp_path / "out", 5)
    assert ids == sorted(ids) and len(ids) == 5
    references = open_references(tmp_path / "out")
    assert [item.name for item in references] == ids and all(item.words for item in references)
    assert references_from_shards(shards, tmp_path / "out", 5) == ids
    with pytest.raises(SetError, match="holds other photos"):
        references_from_shards(shards, tmp_path / "out", 2)


def test_what_cannot_be_had(shards, tmp_path):
    with pytest.raises(SetError, match="holds 7 samples, fewer than the 8 asked for"):
        references_from_shards(shards, tmp_path / "out", 8)
    with pytest.raises(SetError, match="holds no shards: run `make curate` first"):
        references_from_shards(tmp_path, tmp_path / "out", 1)
