"""The scoring operator: who is to blame when a model fails."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from common.cluster.pools import Machine
from common.decode import Picture
from curation.filters.base import FilterBroken
from curation.run_directory.run import Run
from curation.scoring.batch import score_each
from curation.scoring.operator import ScoringOperator
from curation.scoring.order import Costs
from curation.scoring.score import operators, pool_of
from tests.world import small_recipe


class Picky:
    """A filter that cannot score pictures of some widths."""

    name, needs = "picky", ()
    columns = (pa.field("width", pa.int64()),)

    def __init__(self, *bad):
        self.bad = bad

    def score(self, pictures, needed):
        for picture in pictures:
            if picture.width in self.bad:
                raise ValueError(f"{picture.width} is too much")
        return pa.table({"width": [picture.width for picture in pictures]})


def pictures(*widths):
    return [Picture(np.zeros((8, width, 3), np.uint8), width, 8, 1, "jpeg") for width in widths]


def test_only_the_guilty_image_gets_an_error():
    table, errors = score_each(Picky(11), pictures(9, 10, 11, 12), {})
    assert table["width"].to_pylist() == [9, 10, None, 12]
    assert errors == [None, None, "ValueError: 11 is too much", None]


class Hungry(Picky):
    """A filter that needs more memory than there is for two pictures, or for one of some widths."""

    def score(self, pictures, needed):
        if len(pictures) > 1 or pictures[0].width in self.bad:
            raise MemoryError("cannot allocate")
        return pa.table({"width": [pictures[0].width]})


def test_short_memory_asks_for_a_smaller_batch_and_is_never_evidence():
    table, errors = score_each(Hungry(), pictures(9, 10, 11, 12), {})
    assert table["width"].to_pylist() == [9, 10, 11, 12] and errors == [None] * 4
    with pytest.raises(MemoryError):
        score_each(Hungry(11), pictures(9, 10, 11, 12), {})


def test_a_filter_that_fails_on_everything_is_broken_not_the_images():
    with pytest.raises(FilterBroken, match="picky failed on each of 5 images: ValueError: 9 is too much"):
        score_each(Picky(9), pictures(9, 9, 9, 9, 9), {})


def test_a_filter_that_cannot_run_here_stops_the_run_before_an_image_is_scored(small_world, tmp_path, monkeypatch):
    monkeypatch.setenv("FACEMAKEUP_PADDLE", str(tmp_path / "no such environment"))
    recipe = small_recipe(small_world, "filters.text.engine=paddleocr")

    fingerprints = {name: item.fingerprint for name, item in recipe.open_filters().items()}
    with pytest.raises(FilterBroken, match="there is no environment for it"):
        ScoringOperator(Run(tmp_path), recipe, list(fingerprints), fingerprints, 0, "cpu")


def test_another_nodes_weights_are_refused(small_world, tmp_path):
    recipe = small_recipe(small_world)
    fingerprints = {name: item.fingerprint for name, item in recipe.open_filters().items()} | {"faces": "0" * 12}
    with pytest.raises(FilterBroken, match="model files or the libraries of .*faces.* differ from the driver's"):
        ScoringOperator(Run(tmp_path), recipe, ["faces"], fingerprints, 0, "cpu")


def test_operators_follow_devices_and_needs(small_world):
    recipe = small_recipe(small_world)
    filters = recipe.open_filters()
    cpu, gpu = Machine(16, 0), Machine(16, 1)
    assert operators(recipe, filters, [cpu]) == [("cpu", list(filters))]
    assert operators(recipe, filters, [gpu] * 4) == [("gpu", list(filters))]
    two = [("cpu", ["grayscale", "anime"]), ("gpu", ["text", "faces"])]
    assert operators(recipe, filters, [cpu, gpu]) == two
    looking = small_recipe(small_world, "filters.anime.where=faces", "score.split_devices=true")
    groups = operators(looking, looking.open_filters(), [gpu])
    assert [names for _, names in groups] == [["grayscale"], ["text", "faces"], ["anime"]]


def test_pools_fit_beside_each_other(small_world):
    """All operators' first actors have room at the same time, or the one that has none would stop the other."""
    recipe, cpu, gpu = small_recipe(small_world), Machine(16, 0), Machine(16, 1)
    recipe = recipe.model_copy(update={"score": recipe.score.model_copy(update={"workers": None})})
    for machines, devices in (
        ([cpu], ["cpu"]), ([cpu], ["cpu", "cpu"]), ([gpu], ["gpu"]), ([gpu], ["cpu", "gpu"]),
        ([cpu, gpu], ["cpu", "gpu"]), ([Machine(2, 0)], ["cpu", "cpu"]), ([Machine(1, 0)], ["cpu", "cpu"]),
    ):  # fmt: skip
        pools = [pool_of(device, recipe, machines, 1000, len(devices)) for device in devices]
        assert sum(pool.start * pool.cpus for pool in pools) < sum(machine.cpus for machine in machines)
        assert sum(pool.start * pool.gpus for pool in pools) <= sum(machine.gpus for machine in machines)
        assert all(pool.most == 1000 for pool in pools)


def test_costs_are_written_down():
    costs = Costs(["text"])
    assert costs.as_dict() == {"text": {"seconds": None, "pass_rate": 0.5, "images": 0}}
