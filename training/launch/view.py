"""A training run as it is seen while it runs: its log, followed from wherever it is written."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import fsspec

from common.progress import Steps, say
from common.storage import is_local
from model.conditioning.identity import IdentityEncoder
from model.config import load_config
from training.recipe import TrainRecipe

LOOK_EVERY = 1.0  # seconds, on a disk
ASK_EVERY = 10.0  # in an object store, where each look is a request and the log comes every half minute


class View:
    """Shows rows of a run's log. The time that is left is measured from the last start on: what a run did before it
    was killed, and how long it lay, say nothing about the steps to come."""

    def __init__(self, steps: int):
        self.steps = steps
        self.starts = 0
        self._shown: Steps | None = None

    def row(self, row: dict[str, Any]) -> None:
        kind, step = row["kind"], row["step"]
        if kind == "started":
            self.close()
            self.starts += 1
            again = ", again: a rank had ended" if self.starts > 1 else ""
            say("train", f"{row['world']} ranks on {len(set(row['hosts']))} hosts, from step {step}{again}")
        elif kind == "train":
            if self._shown is None:
                self._shown = Steps("train", self.steps, "steps").__enter__()
            note = f"loss {row['loss']:.4f}, data wait {row['data_wait']:.1%}"
            self._shown.advance(step - self._shown.done, note)
        elif kind == "validation":
            say("train", f"step {step}: {validated(row)}")
        elif kind == "corrupt":
            say("train", f"[red]corrupt[/], step {step}: {row['id']}: {row['why']}")

    def close(self) -> None:
        if self._shown is not None:
            self._shown.__exit__(None, None, None)
            self._shown = None


def validated(row: dict[str, Any]) -> str:
    """A row of kind "validation" in words."""
    words = [f"fixed-noise loss {row['loss']:.4f}"]
    if worth := {name: value for name, value in row.items() if name.startswith("worth_")}:
        told = ", ".join(f"{name.removeprefix('worth_')} {value:+.1%}" for name, value in worth.items())
        words.append(f"with another's {told}")
    if "likeness_drawn" in row:
        words.append(f"identity {row['likeness_drawn']:.3f} (another's {row['likeness_others']:.3f})")
    return "; ".join(words)


class Tail:
    """New whole lines of a growing file on any filesystem, from its end at the time of making on."""

    def __init__(self, place: str):
        self.fs, self.path = fsspec.core.url_to_fs(place)
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
def watched(out: str, steps: int) -> Iterator[View]:
    """Shows OUT/log.jsonl while it is written: workers are other processes, maybe on other machines."""
    view, tail, ended = View(steps), Tail(f"{out}/log.jsonl"), threading.Event()
    every = LOOK_EVERY if is_local(tail.fs) else ASK_EVERY

    def watch() -> None:
        while not ended.wait(every):
            try:
                new = tail.rows()
            except OSError as error:
                say("train", f"{out}/log.jsonl cannot be read at the moment ({error}); the run goes on")
                continue
            for row in new:
                view.row(row)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield view
    finally:
        ended.set()
        thread.join(timeout=every)
        view.close()


def shown(steps: int, rank: int) -> Callable[[Any], None]:
    """For a rank of torchrun's: a line now and then on rank 0; loss, rate, and the time that is left."""
    bar: list[Steps] = []

    def seen(progress: Any) -> None:
        if rank:
            return
        if not bar:
            bar.append(Steps("train", steps, "steps").__enter__())
        bar[0].advance(progress.step - bar[0].done, f"loss {progress.loss:.4f}")
        if progress.step == steps:
            bar[0].__exit__(None, None, None)

    return seen


def recogniser(recipe: TrainRecipe, rank: int) -> IdentityEncoder | None:
    """What says on rank 0 how alike drawn faces are: the encoder that the model is conditioned on. It judges its own
    cause, so its figure tells that a run learns, not how good it is. None, and said, where its files are not to be had.
    """
    from common.weights import WeightError
    from model.conditioning.identity import open_encoder

    if rank or not recipe.seeing.panel:
        return None
    how = load_config(recipe.model).conditions
    try:
        return open_encoder(how.identity_encoder, how.channel_order)
    except WeightError as error:
        say("train", f"how alike drawn faces are will not be measured: {error}")
        return None
