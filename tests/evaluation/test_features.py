"""Features by actors of Ray: the same as without, each made once, and a model that only the driver has is one message."""

from __future__ import annotations

import pytest

from common.command_line import message_of
from common.errors import UserError
from common.hashing import sha256_of_file
from common.storage import Storage
from evaluation import features
from evaluation.features import make_features, read_features
from evaluation.metrics.base import Sources
from evaluation.metrics.face_similarity import FaceSimilarity
from evaluation.sets import open_references

TITLE = "FaceSim, dlib"


@pytest.fixture
def hashes(sets):
    return {reference.file: sha256_of_file(reference.file) for reference in open_references(sets.references)}


def test_actors_make_the_same_features_and_none_twice(ray_cluster, hashes, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "PART", 1)
    metric = FaceSimilarity("dlib", Sources())
    here, there = Storage(tmp_path / "here"), Storage(tmp_path / "there")
    make_features({TITLE: metric}, hashes, here, Sources())
    make_features({TITLE: metric}, hashes, there, Sources(), workers=2)
    assert read_features(metric, there) == read_features(metric, here) and len(read_features(metric, here)) == 2
    monkeypatch.setattr(features, "map_with_actors", None)  # nothing is left to do
    make_features({TITLE: metric}, hashes, there, Sources(), workers=2)


def test_a_model_that_only_the_driver_has_is_one_message(ray_cluster, hashes, tmp_path):
    metric = FaceSimilarity("dlib", Sources())
    with pytest.raises(UserError) as caught:
        make_features({"FaceSim, arcface": metric}, hashes, Storage(tmp_path), Sources(), workers=1)
    assert "a node lacks what the driver has: model file w600k_r50.onnx" in message_of(caught.value)
