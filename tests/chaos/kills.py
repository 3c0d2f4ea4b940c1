"""Which kills there are, and how one is placed: the victim is stopped, looked at, and killed if it is at work.

What a kill may hang on is in one table, `STEPS`: which files a step writes, what Ray calls the workers that do its work,
and which step speaks in the driver's log before it.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import psutil

from tests.chaos.cluster import OwnCluster, Worker, raylet_of, title_of
from tests.chaos.faulty_store import FaultyStore


class Step(NamedTuple):
    """`files`: those that it writes; `titles`: of its workers while they work, not while they wait or load a model; `before`: the step that spoke last."""

    files: str
    titles: str
    before: str


TASK = r"ray::<lambda>"
STEPS = {
    "fetch": Step(r"fetched/\d+/.*\.parquet", r"ray::fetch_part", "select"),
    "score": Step(r"scores/.*\.parquet", r"ray::.*ScoringOperator.*\)\.submit", "fetch"),
    "annotate": Step(r"annotations/.*\.parquet", TASK, "cut"),
    "pack": Step(r"shards/.*\.tar", TASK, "annotate"),
}
ALL_STEPS = ("select", "fetch", "score", "cut", "annotate", "pack")
KINDS = ("driver", "worker", "raylet")
RAYLETS = 3 / 20  # of all kills
LOOK_EVERY = 0.005  # seconds
LONGEST = 900.0  # seconds that a driver may take from one kill to the next, or to its end; it hangs then


@dataclass
class Kill:
    """One kill: what is to be hit, after which share of the step's files; what was hit, and what came of it."""

    number: int
    step: str
    kind: str
    share: float
    pid: int = 0
    title: str = ""
    done: int = 0  # files of the step that were there at the kill
    total: int = 0  # that were there in the end
    said: str = ""  # the last line of the driver's log at the kill
    run: str = ""
    after: str = ""
    result: str = ""
    missed: list[str] = field(default_factory=list)  # why it did not count before

    def drawn_again(self, draw: random.Random, why: str) -> None:
        self.missed.append(why)
        self.share = draw.random()
        self.pid, self.title, self.done, self.total, self.said = 0, "", 0, 0, ""


def draw_kills(number: int, draw: random.Random, first: int = 1) -> list[Kill]:
    """That many kills, the steps in turn, the kinds shuffled: a few raylets, of the rest half drivers, half workers."""
    raylets = round(number * RAYLETS)
    workers = (number - raylets) // 2
    kinds = ["raylet"] * raylets + ["worker"] * workers + ["driver"] * (number - raylets - workers)
    draw.shuffle(kinds)
    steps = [list(STEPS)[place % len(STEPS)] for place in range(number)]
    return [
        Kill(first + place, step, kind, draw.random())
        for place, (step, kind) in enumerate(zip(steps, kinds, strict=True))
    ]


class Place:
    """A run directory as the harness sees it, without asking the store: `root` for the driver."""

    def __init__(self, root: str, store: FaultyStore | None = None):
        self.root, self._store = root, store

    def files(self, pattern: str) -> list[str]:
        """Relative paths that match the whole pattern."""
        if self._store is not None:
            prefix = self.root.removeprefix("s3://") + "/"
            paths = [key.removeprefix(prefix) for key in self._store.keys if key.startswith(prefix)]
        else:
            top = Path(self.root, pattern.partition("/")[0])
            inside = [Path(folder, name) for folder, _, names in os.walk(top) for name in names if name[0] != "."]
            paths = [str(path.relative_to(self.root)) for path in inside]
        return [path for path in paths if re.fullmatch(pattern, path)]


def spoke_last(log: str) -> tuple[str, str]:
    """The step that the last line of a driver's log is of, and that line."""
    for line in reversed(log.splitlines()):
        if (step := line[:8].strip()) in ALL_STEPS:
            return step, line.strip()
    return "", ""


class Striker:
    """Waits for a kill's moment and strikes."""

    def __init__(self, cluster: OwnCluster, draw: random.Random, usual: dict[str, tuple[int, float]]):
        """`usual`: of each step, the files that it writes and the seconds from the first to the last."""
        self.cluster, self.draw, self.usual = cluster, draw, usual

    def place(self, kill: Kill, place: Place, driver: psutil.Process, log: Path) -> str:
        """Kill as soon as the share of the step's files is there; "", or why there was nothing to hit."""
        step, (files, seconds) = STEPS[kill.step], self.usual[kill.step]
        wanted = 1 + int(kill.share * (files - 1))
        pause = self.draw.uniform(0, seconds / files)
        deadline = time.monotonic() + LONGEST
        while driver.is_running() and driver.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
            can_lose = kill.kind != "raylet" or self.cluster.is_whole
            if can_lose and len(place.files(step.files)) >= wanted:
                time.sleep(pause)
                pause = 0.0
                if why := self._strike(kill, step, place, driver, log):
                    if spoke_last(log.read_text())[0] not in (kill.step, step.before):
                        return why
                else:
                    return ""
            time.sleep(LOOK_EVERY)
        return "the step was never so far"

    def _strike(self, kill: Kill, step: Step, place: Place, driver: psutil.Process, log: Path) -> str:
        """Stop a victim, see what is under way, and kill it; else let it go on, and say why."""
        workers = self.cluster.busy(step.titles)
        if kill.kind == "raylet":
            workers = [worker for worker in workers if self.cluster.can_be_lost(worker.node)]
        if not workers:
            return "no worker was at work"
        worker = self.draw.choice(workers)
        victim = {"driver": driver, "worker": worker.process}.get(kill.kind) or raylet_of(worker.node)
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.suspend()
            kill.pid, kill.title = victim.pid, _named(kill.kind, worker)
            kill.done = len(place.files(step.files))
            said, kill.said = spoke_last(log.read_text())
            if _is_at(worker, step.titles) and said in (kill.step, step.before):
                victim.kill()
                if kill.kind == "raylet":
                    self.cluster.lose(worker.node)
                return ""
            victim.resume()
        return "it had just ended its work"


def _is_at(worker: Worker, titles: str) -> bool:
    try:
        return bool(re.fullmatch(titles, title_of(worker.process)))
    except psutil.NoSuchProcess:
        return False


def _named(kind: str, worker: Worker) -> str:
    """What is hit, for the table; of a driver and a raylet also what was under way there."""
    return worker.title if kind == "worker" else f"{kind}, {worker.title} at work"
