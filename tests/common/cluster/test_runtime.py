"""Ray does not start: a message with the remedy, after two tries. What a worker raises arrives as it was raised."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import ray

from common.cluster.pools import Pool
from common.cluster.runtime import RayNotStarted, connected
from common.cluster.work import map_with_actors
from common.command_line import message_of
from common.errors import UserError
from tests.world import ROOT


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


@pytest.mark.parametrize("where", ["constructor", "call"])
def test_what_a_worker_raises_is_told_in_its_own_words_and_only_there(ray_cluster, capfd, where):
    class Operator:
        def __init__(self):
            if where == "constructor":
                raise UserError("mend this")

        def __call__(self, row):
            raise UserError("mend this")

    with connected(), pytest.raises(UserError) as caught:
        map_with_actors(ray.data.from_items([{"x": 1}]), Operator, {}, Pool(1, 1, 1.0)).take_all()
    assert message_of(caught.value) == "mend this"
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_ends_a_command_as_ctrl_c_does(ray_cluster, name):
    """Ray's own handler would print its stack and end the process before anything is tidied up."""
    code = f"""
import os, signal
from common.command_line import exit_code_of
from common.cluster.runtime import connected
def work():
    with connected():
        try:
            os.kill(os.getpid(), signal.{name})
            signal.pause()
        finally:
            print("tidied up", flush=True)
raise SystemExit(exit_code_of(work))
"""
    environment = {**os.environ, "RAY_ADDRESS": ray_cluster["address"], "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (130, "tidied up\n")
    assert done.stderr.endswith("stopped: interrupted; what is done stays, and the same command goes on from here\n")
    assert "Traceback" not in done.stderr and "received" not in done.stderr


def test_no_number_of_retries_stands_between_a_lost_node_and_the_rest(ray_cluster):
    """Ray asks the actors of a lost node again and again until it knows of the loss, so that any number is soon used up:
    `make chaos` kills raylets while actors score."""

    class Asked:
        def map(self, operator, **options):
            return options

    assert map_with_actors(Asked(), object, {}, Pool(1, 1, 1.0))["max_task_retries"] == -1
