"""What a site says about all of its pages, in robots.txt (RFC 9309) and tdmrep.json, asked for once a site.

A site is scheme, host and port. Everything goes through the safe client, so a site's rules cannot lead anywhere that
its images could not.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from protego import Protego

from common.http.addresses import FetchFailure
from common.http.client import Attempt, SafeClient
from common.http.connection import Clock
from curation.fetch import tdm

if TYPE_CHECKING:  # the actor that keeps rules starts without the filters, which a recipe imports
    from curation.recipe.recipe import Fetch

MOST = (
    500 * 1024
)  # bytes of a file of rules that are read, as RFC 9309 asks for at least; what is beyond does not count
REDIRECTS = 5  # as RFC 9309 has it
# failures of the host itself, which an image of it would have too
OF_THE_HOST = frozenset("dns unreachable tls connection refused_address asked_to_wait".split())
# "unavailable" in RFC 9309, which means that nothing is forbidden; 429 is no refusal to show the rules
UNAVAILABLE = frozenset("too_many_redirects refused_scheme bad_url".split())


@dataclass(frozen=True)
class SiteRules:
    """`failure`: class and detail, where it cannot be known what is forbidden."""

    robots_txt: str = ""
    reservations: tuple[tdm.Rule, ...] = ()
    failure: tuple[str, str] | None = None

    @cached_property
    def _parsed(self) -> Protego:
        return Protego.parse(self.robots_txt)

    def allow(self, url: str, agent: str | None) -> bool:
        """Whether robots.txt lets `agent` ask for a URL. Raises FetchFailure where that cannot be known."""
        if self.failure:
            raise FetchFailure(*self.failure)
        return not self.robots_txt or self._parsed.can_fetch(url, agent or "*")

    def __getstate__(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in ("robots_txt", "reservations", "failure")}


def site_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def read_rules(site: str, headers: dict[str, str], client: SafeClient, settings: Fetch) -> SiteRules:
    """Ask a site for the rules that the recipe honours. `client`: with the limits above, and `truncate`."""

    def get(path: str) -> bytes:
        clock = Clock(settings.timeout, settings.deadline)
        answer = client.get(site + path, headers, clock, Attempt())
        try:
            return answer.read()
        finally:
            answer.close()

    text, reservations = "", ()
    if settings.robots_txt:
        try:
            text = get("/robots.txt").decode("utf-8-sig", errors="replace")
        except FetchFailure as failure:
            if not _means_allowed(failure.error):
                error = failure.error if failure.error in OF_THE_HOST else "robots_txt_unreachable"
                return SiteRules(failure=(error, f"{site}/robots.txt: {failure}"[:300]))
    if settings.tdm_reservation:
        try:
            reservations = tdm.rules_of(get(tdm.PATH))
        except FetchFailure:
            reservations = ()  # nothing was published there: the protocol has no rule for a site that does not answer
    return SiteRules(text, reservations)


def _means_allowed(error: str) -> bool:
    return error in UNAVAILABLE or (error.startswith(("http_3", "http_4")) and error != "http_429")
