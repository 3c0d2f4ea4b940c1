"""`python -m evaluation score` killed by SIGKILL, in a picture and in a write: what was kept is not made again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections import Counter

import pyarrow as pa
import pytest

from common.hashing import sha256_of_bytes
from common.storage import Storage
from evaluation import features
from evaluation.__main__ import main
from evaluation.metrics.base import Figure, Metric
from evaluation.metrics.registry import METRICS
from tests.real_photos import read

PHOTOS = ("astronaut", "cat", "rocket", "page", "six")
CHILD = """
import os, signal, sys
from tests.evaluation import test_kill
test_kill.prepare(os.environ["MADE"], int(os.environ["KILL_IN_PICTURE"]), int(os.environ["KILL_IN_WRITE"]))
sys.exit(test_kill.main(sys.argv[1:]))
"""


class Brightness(Metric):
    """A metric without a model; it writes down every picture that it is asked for, and may die in one."""

    name, version = "brightness", 1
    columns = (pa.field("mean", pa.float64()),)
    made, dies_at, calls = "", -1, 0

    def __init__(self, sources):
        pass

    def describe(self):
        return {}

    def features(self, rgb):
        with open(self.made, "a") as log:
            log.write(sha256_of_bytes(rgb.tobytes()) + "\n")
        if Brightness.calls == self.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        Brightness.calls += 1
        return {"mean": float(rgb.mean())}

    def scores(self, pair):
        return {"mean": pair.drawn["mean"]}

    def figures(self):
        return [Figure("brightness", "mean")]


def prepare(made, in_picture, in_write):
    """Only this metric, a part a picture; die in that picture, or before that part gets its name."""
    METRICS.clear()
    METRICS["Brightness"] = Brightness
    features.PART = 1
    Brightness.made, Brightness.dies_at = made, in_picture
    plain, seen = os.replace, []

    def replace(source, target):
        if str(target).endswith(".parquet"):
            if len(seen) == in_write:
                os.kill(os.getpid(), signal.SIGKILL)
            seen.append(target)
        plain(source, target)

    os.replace = replace


@pytest.fixture
def only_brightness(monkeypatch, tmp_path):
    before = dict(METRICS)
    monkeypatch.setattr(features, "PART", 1)
    monkeypatch.setattr(Brightness, "made", str(tmp_path / "made"))
    METRICS.clear()
    METRICS["Brightness"] = Brightness
    yield
    METRICS.clear()
    METRICS.update(before)


def test_two_kills_and_each_kept_feature_was_made_once(only_brightness, tmp_path):
    for folder in ("photos", "drawn"):
        (tmp_path / folder).mkdir()
    for name in PHOTOS:
        (tmp_path / "photos" / f"{name}.png").write_bytes(read(name))
        shutil.copy(tmp_path / "photos" / f"{name}.png", tmp_path / "drawn")
    command = ["score", str(tmp_path / "photos"), str(tmp_path / "drawn"), "--out", str(tmp_path / "out")]
    for in_picture, in_write, kept in ((2, -1, 2), (-1, 1, 3)):
        limits = {"MADE": Brightness.made, "KILL_IN_PICTURE": str(in_picture), "KILL_IN_WRITE": str(in_write)}
        done = subprocess.run([sys.executable, "-c", CHILD, *command], env=os.environ | limits, timeout=300)
        assert done.returncode == -signal.SIGKILL
        assert len(Storage(tmp_path / "out").glob("features/*/*.parquet")) == kept
        assert not (tmp_path / "out" / "table.md").exists()
    assert main(command) == 0
    assert not list((tmp_path / "out").rglob("*.tmp")), "what the kills left is swept"
    with open(Brightness.made) as log:
        made = Counter(log.read().split())
    assert len(made) == len(PHOTOS) and sum(made.values()) == len(PHOTOS) + 2, "again only where each kill was"
    assert main([*command[:-1], str(tmp_path / "fresh")]) == 0
    tables = [(tmp_path / name / "table.md").read_bytes() for name in ("out", "fresh")]
    assert tables[0] == tables[1]
