"""Curation runs over the small world: one that nobody touches, and those that are hit while they work."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import yaml

from curation.run_directory.run import Run
from curation.sample.web import LocalWeb
from tests.chaos.cluster import OwnCluster
from tests.chaos.kills import LONGEST, STEPS, Kill, Place, Striker
from tests.world import start_driver, write_small_world

AFTER = {
    "driver": "the same command again",
    "worker": "the same driver went on",
    "raylet": "the same driver went on, a node came back",
}


class World:
    """The small world cut into many small units, so that a kill always finds a step between two of them."""

    def __init__(self, sample: Path, folder: Path):
        self.sample, self.folder = sample, folder
        write_small_world(sample, folder)

    @contextlib.contextmanager
    def recipe(self, name: str) -> Iterator[Path]:
        """The recipe of one run, with a web of its own that outlives its drivers, as the real one does."""
        with LocalWeb(self.sample) as web:
            tree = yaml.safe_load((self.folder / "recipe.yaml").read_text())
            # patient: beside killed and starting processes a good host must not look dead
            tree["fetch"] |= {"part_size": 6, "timeout": 4, "deadline": 8, "local_web": None, "resolve": web.resolve}
            tree["score"] |= {"workers": 2}
            tree["pack"] = {"samples_per_shard": 2}
            path = self.folder / f"{name}.yaml"
            path.write_text(yaml.safe_dump(tree))
            yield path


class Driven:
    """The drivers of one run, one after the other, and their logs."""

    def __init__(self, place: Place, recipe: Path, address: str, environment: dict[str, str]):
        self.place, self.recipe, self.address, self.environment = place, recipe, address, environment
        self.drivers = 0
        self.start()

    def start(self) -> None:
        self.drivers += 1
        self.log = self.recipe.with_suffix(f".{self.drivers}.log")
        with self.log.open("w") as output:
            self.process = start_driver(self.place.root, self.recipe, self.address, output=output, **self.environment)
        self.victim = psutil.Process(self.process.pid)

    def wait(self, cluster: OwnCluster) -> str:
        """Until the driver ends by itself; "", or how it ended."""
        deadline = time.monotonic() + LONGEST
        while self.process.poll() is None:
            if time.monotonic() > deadline:
                return f"the driver had not ended after {LONGEST:.0f} s"
            time.sleep(0.05)
        cluster.wait()
        code = self.process.returncode
        last = self.log.read_text().strip().splitlines()[-1:]
        return f"the driver ended with {code}: {''.join(last)}" if code else ""

    def close(self) -> None:
        """The last driver, where it is still there."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def undisturbed(world: World, cluster: OwnCluster, folder: Path) -> dict[str, tuple[int, float]]:
    """A run on a disk that nobody touches; of each step its files, and the seconds from the first to the last."""
    place = Place(str(folder))
    times: dict[str, dict[str, float]] = {name: {} for name in STEPS}
    with world.recipe("undisturbed") as recipe, contextlib.closing(Driven(place, recipe, cluster.address, {})) as run:
        while run.process.poll() is None:
            for name, step in STEPS.items():
                for path in place.files(step.files):
                    times[name].setdefault(path, time.monotonic())
            time.sleep(0.02)
        if why := run.wait(cluster):
            raise SystemExit(f"the undisturbed run failed: {why}")
    return {name: (len(seen), max(seen.values()) - min(seen.values())) for name, seen in times.items()}


def begun(run: Run, like: Run) -> None:
    """A run in which all is selected, as in another: nothing is killed while selecting."""
    for path in ["manifest.json", *like.glob("candidates/*"), *like.glob("selected/*")]:
        run.write_bytes(path, like.read_bytes(path))


def disturbed(run: Driven, kills: list[Kill], striker: Striker) -> tuple[list[Kill], list[str]]:
    """Hit a run with these kills, in turn, and let it come to its end. Those that found nothing to hit are drawn again;
    returned are the others, and how drivers ended that should not have."""
    placed: list[Kill] = []
    wrong: list[str] = []

    def ended(why: str) -> None:
        if why:
            after = f"after kill {placed[-1].number}: " if placed else ""
            wrong.append(after + why)

    for kill in kills:
        if missed := striker.place(kill, run.place, run.victim, run.log):
            kill.drawn_again(striker.draw, missed)
            if run.process.poll():  # an earlier kill has brought it down
                ended(run.wait(striker.cluster))
                run.start()
            continue
        placed.append(kill)
        kill.after = AFTER[kill.kind]
        if kill.kind == "driver":
            run.process.wait()
            run.start()
    ended(run.wait(striker.cluster))
    counted = []
    for kill in placed:
        kill.total = len(run.place.files(STEPS[kill.step].files))
        if kill.done < kill.total or wrong:  # of a run that was not finished nobody knows
            counted.append(kill)
        else:
            kill.drawn_again(striker.draw, "all files of the step were there")
    return counted, wrong
