"""When to stop fetching: a broken network on this side must not be written down as millions of dead links."""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

from common.errors import UserError
from curation.fetch.part import LOCAL_CAUSES, PartSummary
from curation.recipe.recipe import Fetch
from curation.run_directory.attempts import LOST

CAUSES = {
    "dns": (
        "names do not resolve here: no DNS server, or one that cannot take the load",
        "check `getent hosts HOST` with one of these; a caching resolver on this machine, or fewer fetch.threads",
    ),
    "unreachable": (
        "there is no route, or a firewall",
        "check `curl -I URL` with one of these, and the machine's default route",
    ),
    "tls": (
        "certificates cannot be checked here: no CA bundle, a wrong clock, or a proxy that rewrites TLS",
        "install ca-certificates or set SSL_CERT_FILE; check `date`",
    ),
    LOST: (
        "the download tasks themselves fail: a full disk, or not enough memory",
        "check `df` and `free` where the tasks run; the message above is the task's own",
    ),
}


class FetchStopped(UserError, RuntimeError):
    """Too many failures with a local cause; nothing that was fetched is lost. `counts`: the attempts, as JSON."""

    def __init__(self, message: str, counts: dict[str, Any]):
        super().__init__(message)
        self.counts = counts


class CircuitBreaker:
    """Counts attempts, and stops the fetch when local causes have more than `max_local_failures` of the latest ones.

    The latest are those of the last parts that hold `local_failures_after` attempts together: an outage that begins
    after a million good ones is seen as soon as one at the start.

    Args:
        failed_before: numbers of ids that had a local cause in an earlier round that was not stopped; they do not count, or a retry
            of dead hosts would look like an outage.
    """

    def __init__(self, settings: Fetch, failed_before: frozenset[int] = frozenset()):
        self.settings, self.failed_before = settings, failed_before
        self.counts: Counter[str] = Counter()
        self.window: deque[tuple[int, Counter[str]]] = deque()
        self.bytes = 0
        self.examples: dict[str, str] = {}

    def add(self, part: PartSummary) -> None:
        """Count one part."""
        self.counts.update(part.counts)
        self.bytes += part.bytes
        not_counted = sum(int(identifier, 16) in self.failed_before for identifier in part.failures)
        local: Counter[str] = Counter()
        # a part that is lost as a whole never reached the network
        whole = part.counts.keys() == {LOST}
        for identifier, error in part.failures.items():
            if int(identifier, 16) not in self.failed_before and (error in LOCAL_CAUSES or whole):
                local[error] += 1
        self.window.append((sum(part.counts.values()) - not_counted, local))
        while self.attempts - self.window[0][0] >= self.settings.local_failures_after:
            self.window.popleft()
        if local:
            self.examples.update(part.examples)

    @property
    def attempts(self) -> int:
        return sum(attempts for attempts, _ in self.window)

    @property
    def local(self) -> Counter[str]:
        return sum((local for _, local in self.window), Counter())

    def progress_note(self) -> str:
        """The counts, for a line of progress."""
        failed = self.counts.total() - self.counts["success"]
        return f"({self.counts['success']:,} fetched, {failed:,} failed, {self.bytes / 1e6:,.0f} MB)"

    def check(self) -> None:
        """Raises FetchStopped when it is time."""
        local = self.local
        failing = local.total()
        if self.attempts < self.settings.local_failures_after:
            return
        if failing <= self.settings.max_local_failures * self.attempts:
            return
        worst = local.most_common(1)[0][0]
        cause, remedy = CAUSES[worst]
        examples = [(host, why) for host, why in self.examples.items() if why.startswith(worst)][:3]
        counts = ", ".join(f"{name} {count:,}" for name, count in self.counts.most_common())
        shown = "\n".join(f"  for example {host}: {why}" for host, why in examples)
        message = (
            f"fetch stopped: {failing:,} of the latest {self.attempts:,} attempts failed for a cause on this side ({counts})\n"
            f"{shown}\n"
            f"  likely: {cause}\n"
            f"  remedy: {remedy}. Then run the same command again: what was fetched stays, and these are tried again. "
            "If the web is really like that, raise fetch.max_local_failures"
        )
        raise FetchStopped(message, {"attempts": self.attempts, "counts": dict(self.counts), "examples": examples})
