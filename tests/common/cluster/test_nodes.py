"""What every node must have: the head of the shared Ray stands for another node."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import pytest
import ray

from common.cluster import nodes, work
from common.cluster.nodes import NodeError, code_hash, of_code, require_alike
from common.errors import UserError


@pytest.fixture
def another(ray_cluster, monkeypatch):
    """The shared Ray's head counts as another node than this process's."""
    monkeypatch.setattr(nodes, "other_nodes", lambda: [node for node in ray.nodes() if node["Alive"]])


@dataclass
class HereOnly:
    """In the place of `nodes.facts` in this process; in another one it is that function again."""

    mine: nodes.Facts

    def __call__(self) -> nodes.Facts:
        return self.mine

    def __reduce__(self) -> tuple[Any, ...]:
        return attrgetter("facts"), (nodes,)


def lacking() -> None:
    raise UserError("cannot read the run directory /data/run")


@pytest.mark.parametrize(
    ("other", "look", "words"),
    [({"python": "3.9.1"}, lambda: None, "has Python 3"), ({"ray": "2.9.0"}, lambda: None, "the driver has 2.9.0"),
     ({"code": "0123"}, lambda: None, r"has other code of ours \(\w+\) than the driver \(0123\): build the image anew"),
     ({}, lacking, "cannot read the run directory /data/run")],
)  # fmt: skip
def test_a_node_that_cannot_take_part_is_named_with_what_is_wrong(another, monkeypatch, other, look, words):
    monkeypatch.setattr(nodes, "facts", HereOnly(nodes.Facts(**{**vars(nodes.facts()), **other})))
    with pytest.raises(NodeError, match=words) as caught:
        require_alike(look)
    assert "1 of 1 nodes cannot take part:" in str(caught.value) and str(ray.nodes()[0]["NodeName"]) in str(
        caught.value
    )


def test_nodes_that_are_alike(another):
    assert require_alike(lambda: None) == 1


def test_a_task_on_a_node_with_other_code_is_refused_also_where_the_node_came_later(ray_cluster, monkeypatch):
    assert of_code(code_hash(), max)(1, 2) == 2
    assert list(work.map_with_tasks([3], abs)) == [3]
    monkeypatch.setattr(work, "code_hash", lambda: "0123")
    with pytest.raises(NodeError, match=r"has other code of ours \(\w+\) than the driver \(0123\)"):
        list(work.map_with_tasks([3], abs))
    dataset = work.map_with_actors(ray.data.from_items([1]), Doubles, {}, work.Pool(1, 1, 0.5))
    with pytest.raises(NodeError, match=r"has other code of ours"):
        dataset.take_all()


class Doubles:
    def __call__(self, row: dict[str, int]) -> dict[str, int]:
        return {"item": 2 * row["item"]}
