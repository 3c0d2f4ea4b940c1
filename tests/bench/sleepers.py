"""The real scoring on a Ray that is told it has many CPUs and a GPU, where decoding and models sleep instead of working.

Who sleeps holds a core, or the GPU: a byte that was taken out of a pipe which all processes of the machine share. So no more
than there are can be busy at once, and what Ray, the operator and its threads do with them is what is measured.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import numpy as np
import pyarrow as pa
from pydantic import PrivateAttr

from common.cluster.pools import Machine
from common.decode import Picture
from curation.filters.base import Filter
from curation.recipe.recipe import Recipe
from curation.scoring import operator, unit_in_work
from curation.scoring.operator import ScoringOperator
from tests.rehearsal.make import make_run
from tests.rehearsal.pool import PASSING, passing_pool


@dataclass(frozen=True)
class Work:
    """Seconds of an image: of one core in decoding and in the CPU filters, of the GPU in its models."""

    decode: float
    cpu: float
    gpu: float

    def bound(self, images: int, machine: Machine) -> float:
        """Seconds that no schedule can beat."""
        return images * max((self.decode + self.cpu) / machine.cpus, self.gpu / max(machine.gpus, 1e-9))


@dataclass(frozen=True)
class Busy:
    """Seconds by the clock, and for how many seconds in all cores and GPUs were held."""

    seconds: float
    cpu: float
    gpu: float


class Tokens:
    """The cores and the GPUs of a machine, in pipes of a folder; what was held, and when, in files beside them."""

    def __init__(self, folder: Path):
        self.folder = folder

    def make(self, machine: Machine) -> None:
        """Before any process works. The pipes are empty again when their last holder has closed them."""
        for kind, count in (("cpu", machine.cpus), ("gpu", machine.gpus)):
            os.mkfifo(self.folder / kind)
            os.write(self._open(kind), b"x" * int(count))

    def hold(self, kind: str, seconds: float) -> None:
        pipe = self._open(kind)
        os.read(pipe, 1)
        began = time.monotonic()
        time.sleep(seconds)
        ended = time.monotonic()
        os.write(pipe, b"x")
        with (self.folder / f"held-{os.getpid()}").open("a") as file:
            file.write(json.dumps([kind, began, ended]) + "\n")

    def busy(self) -> Busy:
        """While every process was at work: after the last had begun, before the first had nothing more to do."""
        of_each = [[json.loads(line) for line in path.read_text().splitlines()] for path in self.folder.glob("held-*")]
        first = max(min(begin for _, begin, _ in held) for held in of_each)
        last = min(max(end for *_, end in held) for held in of_each)
        sums = {"cpu": 0.0, "gpu": 0.0}
        for kind, begin, end in (one for held in of_each for one in held):
            sums[kind] += max(0.0, min(end, last) - max(begin, first))
        return Busy(last - first, **sums)

    def _open(self, kind: str) -> int:
        place = self.folder / kind
        if place not in _opened:
            _opened[place] = os.open(place, os.O_RDWR)
        return _opened[place]


_opened: dict[Path, int] = {}  # of this process


class SleepingRecipe(Recipe):
    """A recipe whose filters take their time and pass everything."""

    _work: Work = PrivateAttr()
    _folder: str = PrivateAttr()

    @classmethod
    def of(cls, recipe: Recipe, work: Work, folder: Path) -> SleepingRecipe:
        made = cls.model_validate(recipe.model_dump())
        made._work, made._folder = work, str(folder)
        return made

    def open_filters(self, device: Literal["cpu", "gpu"] = "cpu") -> dict[str, Filter]:
        filters = super().open_filters(device)
        tokens, kinds = Tokens(Path(self._folder)), [item.device for item in filters.values()]
        for name, item in filters.items():
            whole = self._work.gpu if item.device == "gpu" else self._work.cpu
            item.score = _sleeping(item, name, tokens, whole / kinds.count(item.device))
        return filters


def _sleeping(item: Filter, name: str, tokens: Tokens, seconds: float) -> Any:
    table = pa.Table.from_pylist([PASSING[name]], schema=pa.schema(item.columns))

    def score(pictures: list[Picture], _: Any) -> pa.Table:
        tokens.hold(item.device, seconds * len(pictures))
        return table.take(pa.array([0] * len(pictures)))

    return score


class SleepingOperator(ScoringOperator):
    """In a worker: the operator, with pictures out of nothing."""

    def __init__(self, run: Any, recipe: SleepingRecipe, *arguments: Any, **named: Any):
        tokens, picture = Tokens(Path(recipe._folder)), Picture(np.zeros((8, 8, 3), np.uint8), 8, 8, 1, "jpeg")

        def decode(*_: Any) -> Picture:
            tokens.hold("cpu", recipe._work.decode)
            return picture

        unit_in_work.decode, operator.UnitBytes = decode, _NoBytes
        super().__init__(run, recipe, *arguments, **named)

    def _warm_up(self) -> None:
        """There is no model."""


class _NoBytes:
    def __init__(self, *arguments: Any):
        self.in_tar_order = list(arguments[-1])

    def __enter__(self) -> _NoBytes:
        return self

    def __exit__(self, *_: Any) -> None:
        """Nothing was opened."""

    def read(self, _: int) -> bytes:
        return b""


@contextmanager
def _instead() -> Iterator[None]:
    with (
        patch("curation.scoring.score.ScoringOperator", SleepingOperator),
        patch("curation.scoring.score.can_use_gpus", lambda: True),
    ):
        yield


def scored(root: Path, recipe: Recipe, work: Work, machine: Machine, units: int, unit: int) -> Busy:
    """Score `units` of `unit` images on the Ray that is there, which was told that it has `machine`."""
    from curation.run_directory.snapshot import require_snapshot
    from curation.scoring.score import score

    tokens = Tokens(root / "tokens")
    tokens.folder.mkdir()
    tokens.make(machine)
    of_units = recipe.model_copy(update={"fetch": recipe.fetch.model_copy(update={"part_size": unit})})
    run = make_run(root / "run", units * unit, of_units, passing_pool(recipe), until="fetch", surplus=0)
    sleeping = SleepingRecipe.of(recipe, work, tokens.folder)
    with _instead():
        score(run, sleeping, require_snapshot(run), sleeping.open_filters())
    return tokens.busy()
