"""The recipes that come with the project."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from common.settings import RecipeError, flattened
from curation.recipe import recipe as recipes

FOLDER = Path(recipes.__file__).parent


@pytest.mark.parametrize("name", ["sample", "facecaptionhq-4m", "facecaptionhq-4m-clean"])
def test_a_recipe_states_only_what_differs_from_the_defaults(name: str, monkeypatch: pytest.MonkeyPatch):
    """So that changing a default in a filter's class changes what is run."""
    monkeypatch.setenv("FACECAPTION_PARQUET", "faces.parquet")
    path = FOLDER / f"{name}.yaml"
    differing = recipes.load(path).model_dump(mode="json", exclude_defaults=True)
    assert flattened(yaml.safe_load(path.read_text())).keys() == flattened(differing).keys()


def test_a_confidence_that_is_given_for_one_detector_leaves_the_other_its_default():
    tree = {"name": "a", "sources": {"facecaption": ["x"]}, "select": {"count": 1}}
    faces = recipes.parse(tree, changes=["thresholds.faces.min_confidence.yolov5-face=0.7"]).thresholds.faces
    assert (faces.confidence("yolov5-face"), faces.confidence("centerface")) == (0.7, 0.5)


@pytest.mark.parametrize("token", ["my bot", "bot/1.0", "bot\r\nHost: a", "", "größe"])
def test_a_name_that_no_robots_txt_could_say_is_refused(token: str):
    tree = {"name": "a", "sources": {"facecaption": ["x"]}, "select": {"count": 1}}
    with pytest.raises(RecipeError, match="fetch.user_agent_token"):
        recipes.parse({**tree, "fetch": {"user_agent_token": token}})
    assert recipes.parse({**tree, "fetch": {"user_agent_token": None}}).fetch.user_agent_token is None


@pytest.mark.parametrize("name", ["", "a/b", "../b", "..", ".hidden", "a\\b", "caf\udce9", "a\0b"])
def test_a_cuts_name_is_one_folders(name: str):
    with pytest.raises(RecipeError, match="NAME=.*no slash"):
        recipes.checked_name(name)


@pytest.mark.parametrize("name", ["strict", "s 2", "é", "a.b", "x[1]"])
def test_any_other_name_is_taken(name: str):
    assert recipes.checked_name(name) == name


def test_a_mistake_in_a_change_names_the_change():
    with pytest.raises(RecipeError, match=r"changed by thresholds.text.max_aera=0.02, has 3 mistakes"):
        recipes.parse({"name": "a"}, "a.yaml", ["thresholds.text.max_aera=0.02"])
