"""The hosts' state (curation/fetch/hosts.py) in Ray actors, as the download tasks see it."""

from __future__ import annotations

import zlib

import ray
from ray.actor import ActorHandle

from curation.fetch.hosts import Hosts, Turn
from curation.fetch.site_rules import SiteRules
from curation.recipe.recipe import Fetch

CPUS_AN_ACTOR = 64  # of the cluster: one actor answers some thousand calls a second, a core asks for a few dozen
SPARE = 10.0  # seconds beyond the deadline after which a place is taken from whoever holds it
CALLS = 50_000  # that may wait in an actor at the same time


class SharedHosts:
    """The same methods as `Hosts`, called from any thread of any task. Ends with the driver."""

    def __init__(self, actors: list[ActorHandle]):
        self.actors = actors

    @classmethod
    def start(cls, settings: Fetch) -> SharedHosts:
        actor = ray.remote(Hosts).options(num_cpus=0, max_concurrency=CALLS, max_restarts=-1, max_task_retries=-1)
        held = settings.deadline + SPARE
        number = 1 + int(ray.cluster_resources().get("CPU", 1)) // CPUS_AN_ACTOR
        arguments = settings.host_connections, held, settings.longest_pause
        return cls([actor.remote(*arguments) for _ in range(number)])

    def _of(self, name: str) -> ActorHandle:
        return self.actors[zlib.crc32(name.encode()) % len(self.actors)]

    def enter(self, host: str) -> Turn:
        return ray.get(self._of(host).enter.remote(host))

    def leave(self, host: str, ticket: int, pause: float) -> None:
        self._of(host).leave.remote(host, ticket, pause)

    def lookup(self, site: str) -> SiteRules | None:
        return ray.get(self._of(site).lookup.remote(site))

    def store(self, site: str, rules: SiteRules) -> None:
        self._of(site).store.remote(site, rules)

    def start_round(self) -> None:
        for actor in self.actors:
            actor.start_round.remote()

    def stop(self) -> None:
        for actor in self.actors:
            ray.kill(actor)
