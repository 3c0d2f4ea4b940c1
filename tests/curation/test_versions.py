"""Format versions: what another version wrote is refused in words, and every hash of content knows them."""

from __future__ import annotations

import pytest

from common.settings import RecipeError
from curation import versions
from curation.filters import base
from curation.recipe import recipe as recipes
from curation.versions import RUN_FORMAT, require_current


@pytest.fixture(scope="module")
def recipe():
    return recipes.load("curation/recipe/sample.yaml")


def test_this_version_goes_on_in_what_it_wrote():
    require_current({"format": RUN_FORMAT}, "runs/a")


@pytest.mark.parametrize(("manifest", "age"), [({"recipe": {}}, "an earlier"), ({"format": RUN_FORMAT + 1}, "a later")])
def test_another_versions_run_is_refused_with_a_remedy(manifest, age):
    with pytest.raises(RecipeError, match=rf"runs/a was written by {age} version.*report\.py.*RUN="):
        require_current(manifest, "runs/a")


def test_a_cut_is_bound_to_the_formats_of_cut_and_shards(recipe, monkeypatch):
    content = recipe.content({"grayscale": "0"}, "snapshot", "candidates", "none")
    assert content["format"] == {"cut": versions.CUT_FORMAT, "shards": versions.SHARD_FORMAT}
    monkeypatch.setattr(recipes, "SHARD_FORMAT", versions.SHARD_FORMAT + 1)
    assert recipe.content({"grayscale": "0"}, "snapshot", "candidates", "none") != content


def test_thresholds_of_a_filter_that_is_off_do_not_count(recipe):
    content = recipe.content({"grayscale": "0"}, "snapshot", "candidates", "none")
    assert set(content["thresholds"]) == {"grayscale"}


@pytest.mark.parametrize("name", ["grayscale", "text", "faces", "anime"])
def test_scores_of_another_format_or_library_have_another_fingerprint(recipe, monkeypatch, name):
    item = recipe.open_filters()[name]
    before = item.fingerprint
    with monkeypatch.context() as patch:
        patch.setattr(base, "SCORES_FORMAT", versions.SCORES_FORMAT + 1)
        assert item.fingerprint != before
    with monkeypatch.context() as patch:
        patch.setattr(base, "library_version", lambda module: "another")
        assert item.fingerprint != before
    assert item.fingerprint == before
