"""Shows a training run in the terminal while it runs, by following its log wherever that is written."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from typing import Any

from common.paths import is_local, open_place
from common.progress import ProgressBar, say

LOOK_EVERY = 1.0  # seconds, on a disk
ASK_EVERY = 10.0  # in an object store, where each look is a request and the log comes every half minute


class LogView:
    """Prints rows of a run's log. The time that is left is measured from the last start on: what a run did before it
    was killed, and how long it lay, say nothing about the steps to come."""

    def __init__(self, steps: int):
        self.steps = steps
        self.starts = 0
        self._bar: ProgressBar | None = None

    def show(self, row: dict[str, Any]) -> None:
        kind, step = row["kind"], row["step"]
        if kind == "started":
            self.close()
            self.starts += 1
            again = ", again: a rank had ended" if self.starts > 1 else ""
            say("train", f"{row['world']} ranks on {len(set(row['hosts']))} hosts, from step {step}{again}")
        elif kind == "train":
            if self._bar is None:
                self._bar = ProgressBar("train", self.steps, "steps").__enter__()
            note = f"loss {row['loss']:.4f}, data wait {row['data_wait']:.1%}"
            self._bar.advance(step - self._bar.done, note)
        elif kind == "validation":
            say("train", f"step {step}: {validation_text(row)}")
        elif kind == "evaluation":
            say("train", f"step {step}: {evaluation_text(row)}")
        elif kind == "corrupt":
            say("train", f"corrupt, step {step}: {row['id']}: {row['why']}", style="red")

    def close(self) -> None:
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
            self._bar = None


def validation_text(row: dict[str, Any]) -> str:
    """One line for a row of kind "validation"."""
    parts = [f"fixed-noise loss {row['loss']:.4f}"]
    if worth := {name: value for name, value in row.items() if name.startswith("worth_")}:
        shares = ", ".join(f"{name.removeprefix('worth_')} {value:+.1%}" for name, value in worth.items())
        parts.append(f"with another's {shares}")
    if "likeness_drawn" in row:
        parts.append(f"identity {row['likeness_drawn']:.3f} (another's {row['likeness_others']:.3f})")
    return "; ".join(parts)


def evaluation_text(row: dict[str, Any]) -> str:
    """One line for a row of kind "evaluation": the numbers that there are, each yardstick behind its figure."""
    if "failed" in row:
        return f"what is drawn from held-out photos could not be evaluated, the run goes on: {row['failed']}"
    parts = []
    for name in row["says"]:
        if row[name] is not None and not name.endswith("_others"):
            beside = row.get(f"{name}_others")
            another = "" if beside is None else f" (another's {beside:.3f})"
            parts.append(f"{name.replace('_', ' ')} {row[name]:.3f}{another}")
    return "held-out photos: " + ", ".join(parts)


class LogTail:
    """New whole lines of a growing file on any filesystem, from its end at the time of making on."""

    def __init__(self, place: str):
        self.fs, self.path = open_place(place)
        self.offset = self._size()

    def rows(self) -> list[dict[str, Any]]:
        if self._size() <= self.offset:
            return []
        new = self.fs.cat_file(self.path, start=self.offset)
        whole = new[: new.rfind(b"\n") + 1]
        self.offset += len(whole)
        return [json.loads(line) for line in whole.splitlines()]

    def _size(self) -> int:
        self.fs.invalidate_cache()
        return self.fs.size(self.path) if self.fs.exists(self.path) else 0


@contextlib.contextmanager
def following_log(out: str, steps: int) -> Iterator[LogView]:
    """Shows OUT/log.jsonl while it is written: workers are other processes, maybe on other machines."""
    view, tail, ended = LogView(steps), LogTail(f"{out}/log.jsonl"), threading.Event()
    every = LOOK_EVERY if is_local(tail.fs) else ASK_EVERY

    def follow() -> None:
        over = False
        while not over:
            over = ended.wait(every)  # and one look more: the last lines are of the last second
            try:
                new = tail.rows()
            except OSError as error:
                say("train", f"{out}/log.jsonl cannot be read at the moment ({error}); the run goes on")
                continue
            for row in new:
                view.show(row)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield view
    finally:
        ended.set()
        thread.join(timeout=every)
        view.close()
