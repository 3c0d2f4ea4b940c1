"""What all download tasks know of a host together: places for requests, a pause that it asked for, its rules.

One object for all tasks of a fetch, in the event loop of a Ray actor, so nothing here needs a lock. A task may be
killed at any moment: what it holds then is free again after a while.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import NamedTuple

from curation.fetch.site_rules import SiteRules

KEPT_SECONDS = 24 * 3600.0  # RFC 9309: rules should not be used for longer
KEPT_LETTERS = 256_000_000  # of all robots.txt together; the site that was asked for longest ago goes first
LONGEST_PAUSE = 24 * 3600.0  # a host cannot ask for more


class Turn(NamedTuple):
    """A place at a host, to be given back with `leave`; no ticket: come again after `wait` seconds."""

    ticket: int | None
    wait: float = 0.0


@dataclass
class _Host:
    held: set[int] = field(default_factory=set)
    waiting: deque[asyncio.Future[Turn]] = field(default_factory=deque)
    paused_until: float = 0.0

    @property
    def pause(self) -> float:
        return max(0.0, self.paused_until - time.monotonic())


@dataclass
class _Site:
    rules: SiteRules | None
    until: float  # when the rules are too old, or whoever is asking for them is given up
    known: asyncio.Event = field(default_factory=asyncio.Event)


class Hosts:
    """
    Args:
        places: requests that a host gets at the same time, from all tasks.
        held: seconds until a place, or the search for a site's rules, counts as abandoned.
        waited: a pause up to so many seconds is waited for; of a longer one the caller is told.
    """

    def __init__(self, places: int, held: float, waited: float):
        self.places, self.held, self.waited = places, held, waited
        self._hosts: dict[str, _Host] = {}
        self._tickets = itertools.count()
        self._sites: OrderedDict[str, _Site] = OrderedDict()
        self._letters = 0

    # -- places -------------------------------------------------------------------------------------------------

    async def enter(self, host: str) -> Turn:
        """Waits for a place at the host, first come, first served."""
        future = asyncio.get_running_loop().create_future()
        self._hosts.setdefault(host, _Host()).waiting.append(future)
        self._hand_out(host)
        return await future

    async def leave(self, host: str, ticket: int, pause: float = 0.0) -> None:
        """Gives a place back. `pause`: seconds that the host wants to be left alone."""
        self._release(host, ticket, pause)

    def _release(self, host: str, ticket: int, pause: float = 0.0) -> None:
        state = self._hosts.get(host)
        if state is None:
            return
        state.held.discard(ticket)
        if pause > 0:
            state.paused_until = max(state.paused_until, time.monotonic() + min(pause, LONGEST_PAUSE))
        self._hand_out(host)

    def _hand_out(self, host: str) -> None:
        state = self._hosts.get(host)
        if state is None:
            return
        loop, pause = asyncio.get_running_loop(), state.pause
        if pause > self.waited:
            while state.waiting:
                self._answer(state.waiting.popleft(), Turn(None, pause))
        elif pause > 0:
            if state.waiting:
                loop.call_later(pause + 0.01, self._hand_out, host)
        else:
            while state.waiting and len(state.held) < self.places:
                turn = Turn(next(self._tickets))
                if self._answer(state.waiting.popleft(), turn):
                    state.held.add(turn.ticket)
                    loop.call_later(self.held, self._release, host, turn.ticket)
            if not state.waiting and not state.held:
                del self._hosts[host]

    @staticmethod
    def _answer(future: asyncio.Future[Turn], turn: Turn) -> bool:
        if future.done():  # whoever waited was cancelled
            return False
        future.set_result(turn)
        return True

    # -- rules of sites -----------------------------------------------------------------------------------------

    async def lookup(self, site: str) -> SiteRules | None:
        """The rules of a site. None: nobody knows them; ask for them, and `store` them. Others wait until then."""
        while True:
            entry = self._sites.get(site)
            left = entry.until - time.monotonic() if entry else 0.0
            if left <= 0:
                self._forget(site)
                self._sites[site] = _Site(None, time.monotonic() + self.held)
                return None
            self._sites.move_to_end(site)
            if entry.rules is not None:
                return entry.rules
            try:
                await asyncio.wait_for(entry.known.wait(), left)
            except TimeoutError:
                continue  # whoever asked was killed

    async def store(self, site: str, rules: SiteRules) -> None:
        before = self._sites.get(site)
        self._forget(site)
        self._sites[site] = _Site(rules, time.monotonic() + KEPT_SECONDS)
        self._letters += len(rules.robots_txt)
        if before:
            before.known.set()
        while self._letters > KEPT_LETTERS:
            self._forget(next(iter(self._sites)))

    async def start_round(self) -> None:
        """What failed in the last round may have healed: sites that did not answer are asked again."""
        for site in [site for site, entry in self._sites.items() if entry.rules and entry.rules.failure]:
            self._forget(site)

    def _forget(self, site: str) -> None:
        entry = self._sites.pop(site, None)
        if entry and entry.rules:
            self._letters -= len(entry.rules.robots_txt)
