"""Kills training runs at random moments and checks that they end with the same bits: `make drill [RUNS=20] [SEED=0]`.

Each run is killed by SIGKILL at a random moment, is started again until it ends, and must then hold the same bits as the
run that nobody touched, with as many ranks. The first moment is drawn over the whole time that a run takes, those of
up to two more kills over half of it: starts, restores, steps, snapshots and writes are hit as often as they last. Of two
ranks one is killed: the other must end by itself, unless they have not met yet: then it cannot know, and is ended, as
torchrun and Ray do.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

from rich.console import Console
from rich.table import Table

STEPS, EVERY, KEEP = 8, 2, 2
ALONE = 180.0  # seconds that a rank has to end by itself after another was killed
PHASES = ("joining", "starting", "restoring", "in a step", "copying the state")
JOINING, STARTING, RESTORING, STEP, COPYING = range(len(PHASES))


@dataclass
class Kill:
    seconds: float
    rank: int
    step: int
    phase: str


@dataclass
class DrilledRun:
    """What was done to one run, where it went on from, and what came of it."""

    ranks: int
    kills: list[Kill] = field(default_factory=list)
    resumed: list[int] = field(default_factory=list)
    problem: str = ""


class Activity:
    """What a rank is doing at the moment, in memory that its parent sees."""

    def __init__(self):
        # phase, and whether a checkpoint is being written; without a lock, which a killed rank would keep
        self.now = multiprocessing.Array("i", [JOINING, 0], lock=False)

    def __call__(self, output: Path) -> None:
        """In a rank that has been started: note what it is doing, and write what it prints into the file `output`."""
        with output.open("a") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        import training.trainer as trainer
        from training.checkpoint import Checkpoints

        now = self.now
        now[0] = STARTING

        def noted(owner, name, place, value, after):
            usual = getattr(owner, name)

            def replaced(*arguments, **named):
                now[place] = value
                try:
                    return usual(*arguments, **named)
                finally:
                    now[place] = after

            setattr(owner, name, replaced)

        noted(Checkpoints, "restore", 0, RESTORING, STARTING)
        noted(Checkpoints, "save", 0, COPYING, STEP)
        noted(Checkpoints, "_write", 1, 1, 0)
        noted(trainer, "_step", 0, STEP, STEP)

    def text(self) -> str:
        phase, writing = self.now
        return PHASES[phase] + (", writing a checkpoint" if writing else "")


def finished_steps(out: Path) -> int:
    """As the log has it; a killed rank's last line may be half a line."""
    from json import JSONDecodeError, loads

    if not (out / "log.jsonl").exists():
        return 0
    for line in reversed((out / "log.jsonl").read_text().splitlines()):
        try:
            row = loads(line)
        except JSONDecodeError:
            continue
        return row["step"]
    return 0


def attempt(recipe, out: Path, world: int, kill_after: float | None, draw: random.Random) -> tuple[Kill | None, str]:
    """Start the ranks and let them end, or kill one after `kill_after` seconds; the kill, and what went wrong."""
    from tests.training.ranks import start_ranks

    activities = [Activity() for _ in range(world)]
    ranks, answers = start_ranks(recipe, out, world, hook=lambda rank: activities[rank](out.with_suffix(".txt")))
    started = time.monotonic()
    kill = None
    if kill_after is not None:
        while time.monotonic() - started < kill_after and any(rank.is_alive() for rank in ranks):
            time.sleep(0.005)
        victim = draw.randrange(world)
        if ranks[victim].is_alive():
            os.kill(ranks[victim].pid, signal.SIGKILL)
            step = finished_steps(out)
            kill = Kill(time.monotonic() - started, victim, step, activities[victim].text())
            if any(activity.now[0] == JOINING for activity in activities):
                for rank in ranks:
                    rank.kill()
    deadline = time.monotonic() + (ALONE if kill else 600)
    hung = []
    for number, rank in enumerate(ranks):
        rank.join(timeout=max(0.1, deadline - time.monotonic()))
        if rank.is_alive():
            hung.append(number)
            rank.kill()
            rank.join()
    if hung:
        return kill, f"rank {hung} did not end by itself"
    if kill:
        return kill, ""
    failed = [answer for answer in (answers.get(timeout=10) for _ in ranks) if answer]
    return None, failed[0].strip().splitlines()[-1] if failed else ""


def drilled(recipe, out: Path, world: int, usual: float, draw: random.Random) -> DrilledRun:
    """One run: killed once, then up to twice again on the way back, then left alone."""
    from tests.training.ranks import log_of

    run = DrilledRun(world)
    moment = draw.uniform(0, usual)
    while not run.kills and not run.problem:
        shutil.rmtree(out, ignore_errors=True)  # of a run that was faster than the one that was timed, and got away
        kill, run.problem = attempt(recipe, out, world, moment, draw)
        run.kills += [kill] if kill else []
        moment *= 0.8
    again = [draw.uniform(0, usual / 2) for _ in range(draw.randrange(3))]
    for moment in [*again, None]:
        if not run.problem:
            kill, run.problem = attempt(recipe, out, world, moment, draw)
            run.kills += [kill] if kill else []
            if not kill:
                break
    if (out / "log.jsonl").exists():
        run.resumed = [row["step"] for row in log_of(out, "started")][1:]
    return run


def different(one: Path, other: Path) -> str:
    """What of the newest checkpoints is not the same, "" if all is."""
    import torch

    from tests.training.ranks import weights_of

    (name, first), (other_name, second) = weights_of(one), weights_of(other)
    if name != other_name or first.keys() != second.keys():
        return f"{name} against {other_name}"
    unequal = [key for key in first if not torch.equal(first[key], second[key])]
    return f"{len(unequal)} of {len(first)} tensors, e.g. {unequal[0]}" if unequal else ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 140)

    from common.pinned_files.weights import resolve
    from model.build import random_pipeline
    from model.config import load_config
    from tests.training.made.shards import make_shards
    from tests.training.ranks import recipe_for

    with tempfile.TemporaryDirectory(prefix="facemakeup-drill-") as scratch:
        folder = Path(scratch)
        shards = make_shards(folder / "shards", [13, 20, 7, 16])
        random_pipeline(load_config("tiny"), resolve("clip-vocabulary").path).save_pretrained(folder / "base")
        recipe = recipe_for(shards, folder / "base", steps=STEPS, saving__every=EVERY, saving__keep=KEEP)
        usual = {}
        for world in (1, 2):
            began = time.monotonic()
            _, problem = attempt(recipe, folder / f"undisturbed-{world}", world, None, random.Random())
            usual[world] = time.monotonic() - began
            if problem:
                console.print(f"the undisturbed run with {world} ranks failed: {problem}")
                return 1
            console.print(f"undisturbed, {world} ranks: {usual[world]:.1f} s, {STEPS} steps, saved every {EVERY}")
        table = Table(title=f"{asked.runs} runs, seed {asked.seed}")
        for head in ("run", "ranks", "killed after (s)", "rank", "step", "while", "gone on from", "bits"):
            table.add_column(head, justify="right" if head not in ("while", "bits") else "left")
        bad = 0
        for number in range(asked.runs):
            draw = random.Random(f"{asked.seed}/{number}")
            world, out = 1 + (number % 3 == 2), folder / f"run-{number}"
            run = drilled(recipe, out, world, usual[world], draw)
            problem = run.problem or different(out, folder / f"undisturbed-{world}")
            bad += bool(problem)
            table.add_row(
                str(number + 1),
                str(world),
                "\n".join(f"{kill.seconds:.2f}" for kill in run.kills),
                "\n".join(str(kill.rank) for kill in run.kills),
                "\n".join(str(kill.step) for kill in run.kills),
                "\n".join(kill.phase for kill in run.kills),
                ", ".join(map(str, run.resumed)),
                f"[red]{problem}[/]" if problem else "the same",
            )
            console.print(f"run {number + 1} of {asked.runs}: {problem or 'the same bits'}")
        console.print(table)
        console.print("all runs ended with the bits of the undisturbed one" if not bad else f"[red]{bad} runs did not")
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
