"""Ray does not start: a message with the remedy, after two tries. What a worker raises arrives as it was raised."""

from __future__ import annotations

import pytest
import ray

from common.cluster.pools import Pool
from common.cluster.runtime import RayNotStarted, connected
from common.cluster.work import map_with_actors
from common.command_line import message_of
from common.errors import UserError


@pytest.mark.parametrize(
    ("address", "words"),
    [("", ["a local Ray did not start in two tries (no node)", "/tmp/ray/session_latest/logs", "df -h /tmp /dev/shm"]),
     ("127.0.0.1:9", ["RAY_ADDRESS=127.0.0.1:9: no Ray cluster answers there (no node)", "unset it"])],
)  # fmt: skip
def test_a_ray_that_does_not_start_is_a_message(monkeypatch, address, words):
    tries = []

    def init(**options):
        tries.append(options.get("address"))
        raise Exception("no node\nand a hundred lines more")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(RayNotStarted) as caught, connected():
        pass
    assert len(tries) == 2 and all(word in str(caught.value) for word in words)


def test_what_a_worker_raises_is_told_in_its_own_words(ray_cluster):
    def operator(row):
        raise UserError("mend this")

    with connected(), pytest.raises(UserError) as caught:
        ray.data.from_items([{"x": 1}]).map(operator).take_all()
    assert message_of(caught.value) == "mend this"


def test_no_number_of_retries_stands_between_a_lost_node_and_the_rest(ray_cluster):
    """Ray asks the actors of a lost node again and again until it knows of the loss, so that any number is soon used up:
    `make chaos` kills raylets while actors score."""

    class Asked:
        def map(self, operator, **options):
            return options

    assert map_with_actors(Asked(), object, {}, Pool(1, 1, 1.0))["max_task_retries"] == -1
