"""Of two drivers on one run directory one works, on a disk and in a bucket, whatever happens to the other."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from curation.run_directory import driver
from curation.run_directory.driver import Overtaken, RunInUse, only_driver
from curation.run_directory.run import Run
from tests.servers.bucket import s3_bucket

ROOT = Path(__file__).resolve().parents[3]
DRIVES = """
import sys, time
from curation.run_directory import driver
from curation.run_directory.run import Run
driver.BEAT, driver.STILL = 0.1, 1.5
try:
    with driver.only_driver(Run(sys.argv[1])):
        print("drives", flush=True)
        time.sleep(float(sys.argv[2]))
    print("done", flush=True)
except (driver.RunInUse, driver.Overtaken) as refused:
    print(type(refused).__name__, refused, flush=True)
"""


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(driver, "BEAT", 0.1)
    monkeypatch.setattr(driver, "STILL", 1.5)


@pytest.fixture(params=["disk", "bucket"])
def run(request, tmp_path):
    name = tmp_path.name.replace("_", "-")[-50:].strip("-")
    with s3_bucket(name) if request.param == "bucket" else contextlib.nullcontext():
        yield Run(tmp_path / "run" if request.param == "disk" else f"s3://{name}/run")


def drives(run: Run, seconds: float) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVES, run.root, str(seconds)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout.readline() == "drives\n"
    return process


@pytest.fixture
def long(monkeypatch):
    """Whoever waits for a driver to stand still waits too long for the test."""
    monkeypatch.setattr(driver, "STILL", 60)


def test_one_after_the_other_waits_for_nothing(run, long):
    for number in (1, 2):
        started = time.monotonic()
        with only_driver(run):
            assert run.glob("drivers/*.json")[-1] == f"drivers/{number:06d}.json"
        assert time.monotonic() - started < 30
    with contextlib.suppress(ValueError), only_driver(run):
        raise ValueError  # one that failed has ended, too
    with only_driver(run):
        pass


def test_who_comes_second_is_told_whose_it_is(run):
    with only_driver(run):
        with pytest.raises(RunInUse, match=rf"process {os.getpid()} of .* on .*, since 20.*RUN="), only_driver(run):
            pass
        assert run.glob("drivers/*.json") == ["drivers/000001.json"]


def test_of_many_at_once_one_drives(run):
    at_work, most = [], []
    lock = threading.Lock()

    def one(_):
        try:
            with only_driver(run):
                with lock:
                    at_work.append(1)
                    most.append(len(at_work))
                time.sleep(1.0)
                with lock:
                    at_work.pop()
        except RunInUse:
            return "refused"
        return "drove"

    with ThreadPoolExecutor(4) as threads:
        ended = list(threads.map(one, range(4)))
    assert max(most) == 1 and "drove" in ended and "refused" in ended


def test_a_killed_one_is_gone_at_once_on_its_own_machine(run, long):
    process = drives(run, 60)
    process.kill()
    process.wait()
    started = time.monotonic()
    with only_driver(run):
        assert time.monotonic() - started < 30


def test_one_that_stands_still_is_overtaken_and_hears_of_it_when_it_wakes(run):
    process = drives(run, 60)
    os.kill(process.pid, signal.SIGSTOP)
    with only_driver(run):
        assert run.exists("drivers/000002.json")
        os.kill(process.pid, signal.SIGCONT)
        said, _ = process.communicate(timeout=120)
        assert said.startswith("Overtaken") and f"process {os.getpid()}" in said
    assert not run.exists("drivers/000001.end") and run.exists("drivers/000002.end")


def test_ctrl_c_is_no_takeover(run):
    with pytest.raises(KeyboardInterrupt), only_driver(run):
        raise KeyboardInterrupt
    assert run.exists("drivers/000001.end")


def test_an_overtaken_main_thread_is_told(run):
    with pytest.raises(Overtaken), only_driver(run):
        run.write_json("drivers/000002.json", {"pid": 7, "user": "her", "host": "there", "since": "now"})
        time.sleep(5)
