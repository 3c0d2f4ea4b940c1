"""What is asked of a host before and after each request: a free place, its rules, and the headers of its answer."""

from __future__ import annotations

import datetime
import email.utils
import http.client
import math
import threading
import time
from typing import Protocol
from urllib.parse import urlsplit

from common.http.addresses import AddressBook, FetchFailure
from common.http.client import SafeClient
from curation.fetch import tdm
from curation.fetch.hosts import Turn
from curation.fetch.robots_tag import rules_for
from curation.fetch.site_rules import MOST, REDIRECTS, SiteRules, read_rules, site_of
from curation.recipe.recipe import Fetch

HEADERS_OF_RULES = ("User-agent", "User-Agent")  # urllib spells it the first way


class SharedState(Protocol):
    """What all tasks of a fetch share: `Hosts`, called from a thread."""

    def enter(self, host: str) -> Turn: ...

    def leave(self, host: str, ticket: int, pause: float) -> None: ...

    def lookup(self, site: str) -> SiteRules | None: ...

    def store(self, site: str, rules: SiteRules) -> None: ...


class Turns:
    """A gate that keeps to the places at a host, and passes on for how long the host wants to be left alone."""

    def __init__(self, hosts: SharedState):
        self.hosts = hosts
        self._mine = threading.local()  # a thread has one request at a time

    def enter(self, url: str, headers: dict[str, str]) -> None:
        turn = self.hosts.enter(_host(url))
        if turn.ticket is None:
            raise FetchFailure("asked_to_wait", f"{_host(url)} asked to be left alone for another {turn.wait:.0f} s")
        self._mine.ticket, self._mine.pause = turn.ticket, 0.0

    def answered(self, url: str, status: int, headers: http.client.HTTPMessage) -> None:
        if status in (429, 503):
            self._mine.pause = retry_after(headers.get("Retry-After"))

    def leave(self, url: str) -> None:
        self.hosts.leave(_host(url), self._mine.ticket, self._mine.pause)


class OptOutGate(Turns):
    """And asks whether the image may be fetched at all."""

    def __init__(self, hosts: SharedState, book: AddressBook, settings: Fetch):
        super().__init__(hosts)
        self.settings = settings
        self.client = SafeClient(book, Turns(hosts), MOST, REDIRECTS, truncate=True)
        self._rules: dict[str, SiteRules] = {}

    def enter(self, url: str, headers: dict[str, str]) -> None:
        # before there is a place: to ask for the rules takes one, too
        if self.settings.robots_txt or self.settings.tdm_reservation:
            if not self._rules_of(url, headers).allow(url, self.settings.user_agent_token):
                raise FetchFailure("opted_out_robots_txt", f"{site_of(url)}/robots.txt")
        super().enter(url, headers)

    def answered(self, url: str, status: int, headers: http.client.HTTPMessage) -> None:
        super().answered(url, status, headers)
        if not 200 <= status < 300:
            return
        said = headers.get_all("X-Robots-Tag", [])
        if rules_for(said, self.settings.user_agent_token) & {rule.lower() for rule in self.settings.optout}:
            raise FetchFailure("opted_out_header", f"X-Robots-Tag: {'; '.join(said)}"[:300])
        if self.settings.tdm_reservation:
            parts = urlsplit(url)
            selector = parts.path + (f"?{parts.query}" if parts.query else "")
            if tdm.reserved(headers.get_all("tdm-reservation", []), self._rules[site_of(url)].reservations, selector):
                policy = headers.get("tdm-policy")
                raise FetchFailure("opted_out_tdm", f"policy: {policy}"[:300] if policy else "")

    def _rules_of(self, url: str, headers: dict[str, str]) -> SiteRules:
        site = site_of(url)
        if site not in self._rules:
            rules = self.hosts.lookup(site)
            if rules is None:
                own = {name: headers[name] for name in HEADERS_OF_RULES if name in headers}
                rules = read_rules(site, own, self.client, self.settings)
                self.hosts.store(site, rules)
            self._rules[site] = rules
        return self._rules[site]


def retry_after(value: str | None, now: float | None = None) -> float:
    """Seconds to stay away, out of a Retry-After header: a number of seconds or a date. 0 for anything else."""
    if not value:
        return 0.0
    if value.strip().isdecimal():
        return float(value.strip()[:9])
    try:
        date = email.utils.parsedate_to_datetime(value)
        # the oldest of HTTP's three forms names no zone and means GMT
        when = date.replace(tzinfo=date.tzinfo or datetime.UTC).timestamp()
    except (ValueError, OverflowError):
        return 0.0
    seconds = when - (time.time() if now is None else now)
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0


def _host(url: str) -> str:
    return (urlsplit(url).hostname or "").rstrip(".")
