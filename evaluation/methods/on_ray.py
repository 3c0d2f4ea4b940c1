"""A method as a group of Ray's actors: each loads the models once, and draws a few pictures of a reference a call.

Photos go to the actors and pictures come back through Ray, so that nodes need the method's files and nothing else. The group
ends with its method: one that is drawn after it has all the GPUs' memory.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import ray

from common.cluster.pools import Machine, Pool, cpu_pool, gpu_pool, machines_of
from common.cluster.work import map_with_actors
from common.errors import UserError
from common.hashing import canonical_json
from evaluation.methods.base import DrawingMethod
from evaluation.methods.drawer import Drawer, Outcome, Wanted
from evaluation.methods.measure import Measured
from evaluation.methods.sources import MethodSources, Unavailable

BATCH = 4  # pictures a call: what a lost actor or driver has drawn and not yet handed over


@dataclass(frozen=True)
class Crew:
    """Who draws on a Ray that is there. `actors`: of a method; None: one a GPU, or one a CPU where there is no GPU."""

    actors: int | None = None

    def sources(self, sources: MethodSources) -> MethodSources:
        """For the nodes' devices: this machine, the head, may have no GPU where the others have."""
        if sources.device != "auto":
            return sources
        return replace(sources, device="cuda" if _gpus() else "cpu")

    def pool(self, device: str, calls: int) -> Pool:
        machines = _machines()
        if device.startswith("cuda") and any(machine.gpus for machine in machines):
            return gpu_pool(machines, self.actors, calls, 1)
        return cpu_pool(machines, self.actors, calls)


def paid_units() -> float:
    """What a price an hour is multiplied by: the GPUs there are, or the machines where there is none."""
    return _gpus() or float(len(_machines()))


def drawn_on_ray(
    method: DrawingMethod, of_each: Iterable[tuple[bytes, Sequence[Wanted]]], crew: Crew
) -> Iterator[Outcome]:
    """What comes of pictures that are asked for, as they are drawn. `of_each` reference: its photo, and what is asked of it.

    Raises:
        Unavailable: the models cannot be loaded, or the method broke.
        UserError: a node lacks the method's files, or has others.
    """
    photos, calls = [], []
    for photo, wanted in of_each:
        for start in range(0, len(wanted), BATCH):
            some = [asdict(item) for item in wanted[start : start + BATCH]]
            calls.append({"photo": len(photos), "wanted": json.dumps(some)})
        photos.append(ray.put(photo))  # once, however many calls are of it
    dataset = ray.data.from_items(calls, override_num_blocks=len(calls))
    arguments = {"kind": type(method), "sources": method.sources, "described": canonical_json(method.describe())}
    arguments["photos"] = photos
    pool = crew.pool(method.sources.device_name, len(calls))
    for row in map_with_actors(dataset, DrawingActor, arguments, pool).iter_rows():
        for png, told in zip(row["pngs"], json.loads(row["told"]), strict=True):
            cost = Measured(**told["cost"]) if told["cost"] else None
            yield Outcome(told["key"], png, cost, told["failure"])
        if row["broke"]:
            raise Unavailable(row["broke"])


class DrawingActor:
    """`described`: the driver's `describe` of the method, in canonical JSON: what is drawn here must depend on the same;
    `photos`: in Ray's store, by their number in a call."""

    def __init__(
        self, kind: type[DrawingMethod], sources: MethodSources, described: str, photos: Sequence[ray.ObjectRef] = ()
    ):
        node = socket.gethostname()
        try:
            self.method = kind(sources)
        except Unavailable as error:
            raise UserError(f"{kind.title}: on {node} {error}") from error
        if canonical_json(self.method.describe()) != described:
            raise UserError(
                f"{kind.title}: on {node} its files are others than the driver's: give every node the same (--weights, --part)"
            )
        self.photos = photos
        self._drawer: Drawer | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        outcomes, broke = [], ""
        try:
            if self._drawer is None:
                self._drawer = Drawer(self.method)
            photo = ray.get(self.photos[row["photo"]])
            for outcome in self._drawer.draw(photo, [Wanted(**item) for item in json.loads(row["wanted"])]):
                outcomes.append(outcome)
        except Unavailable as error:
            broke = str(error)
        told = [
            {"key": item.key, "failure": item.failure, "cost": asdict(item.cost) if item.cost else None}
            for item in outcomes
        ]
        return {"pngs": [item.png for item in outcomes], "told": json.dumps(told), "broke": broke}


def _gpus() -> float:
    return sum(machine.gpus for machine in _machines())


def _machines() -> list[Machine]:
    return machines_of(ray.nodes())
