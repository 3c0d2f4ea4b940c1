"""What a node sees of a curation: its run directory, or none of it, or another of its name."""

from __future__ import annotations

import shutil

import pytest

from common.cluster.nodes import NodeError
from common.cluster.shipped import ShippedWeights
from curation.nodes import _look, fingerprints_of
from curation.run_directory.driver import only_driver, token_of
from curation.run_directory.run import Run
from tests.world import small_recipe


def test_a_run_directory_that_a_node_does_not_see_or_sees_another_of(small_world, tmp_path):
    recipe, run = small_recipe(small_world), Run(tmp_path / "run")
    fingerprints = fingerprints_of(recipe)
    with only_driver(run) as epoch:
        known = recipe, epoch, token_of(run, epoch)
    _look(run, *known, fingerprints, ShippedWeights())
    with pytest.raises(NodeError, match="the libraries of grayscale differ"):
        _look(run, *known, {**fingerprints, "grayscale": "0123"}, ShippedWeights())
    # the same path on a machine with a disk of its own: nothing there, or what another run has left
    shutil.move(run.root, tmp_path / "elsewhere")
    with pytest.raises(NodeError, match=f"cannot read the run directory {run.root}"):
        _look(run, *known, fingerprints, ShippedWeights())
    with only_driver(run) as other:
        assert other == epoch
    with pytest.raises(NodeError, match="is another folder there than on the driver's node"):
        _look(run, *known, fingerprints, ShippedWeights())
