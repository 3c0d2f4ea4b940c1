"""A random tiny base and small made shards, once; smaller ones in a folder and on a web server."""

from __future__ import annotations

import os

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import pytest

from tests.training.loopback import serving
from tests.training.made.shards import make_shards
from tests.training.made.small_shards import small_shards


@pytest.fixture(scope="session")
def shards(tmp_path_factory):
    """56 samples in 4 shards of different sizes."""
    return make_shards(tmp_path_factory.mktemp("train") / "shards", [13, 20, 7, 16])


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    from common.pinned_files.weights import resolve
    from model.build import random_pipeline
    from model.config import load_config

    folder = tmp_path_factory.mktemp("base")
    random_pipeline(load_config("tiny"), resolve("clip-vocabulary").path).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def undisturbed(shards, base, tmp_path_factory):
    """One rank, one run, nothing in its way; checkpoints every 2 steps."""
    from tests.training.ranks import recipe_for, run_ranks

    out = tmp_path_factory.mktemp("undisturbed")
    run_ranks(recipe_for(shards, base, saving__every=2, saving__export=True), out)
    return out


@pytest.fixture(scope="session")
def two_steps(shards, base, tmp_path_factory):
    """One rank that ended after two steps, whose copies go on. Only to be read."""
    from tests.training.ranks import recipe_for, run_ranks

    out = tmp_path_factory.mktemp("two-steps")
    run_ranks(recipe_for(shards, base, steps=2), out)
    return out


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """26 samples of 32 pixels in 8 shards."""
    return small_shards(tmp_path_factory.mktemp("shards"))


@pytest.fixture
def web(folder):
    """The same on 127.0.0.1."""
    with serving(folder) as server:
        yield server


@pytest.fixture
def no_long_waits(monkeypatch):
    monkeypatch.setattr("training.data.folder.FIRST_WAIT", 0.01)
