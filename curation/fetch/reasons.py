"""Why images were not fetched: which settings decide it, what a person can do, and the end of a fetch that took nothing."""

from __future__ import annotations

from collections import Counter
from typing import Any

from common.errors import UserError
from curation.fetch.breaker import CAUSES
from curation.recipe.recipe import Fetch
from curation.run_directory.attempts import latest_attempts
from curation.run_directory.run import Run

# failures that another setting may turn into a success: the fields of the recipe's `fetch` that decide
DECIDED_BY = {
    "refused_address": ("allow_networks", "resolve"),
    "too_many_bytes": ("max_bytes",),
    "timeout": ("timeout", "deadline"),
    "deadline": ("deadline",),
    "opted_out_header": ("optout", "user_agent_token"),
    "opted_out_robots_txt": ("robots_txt", "user_agent_token"),
    "opted_out_tdm": ("tdm_reservation",),
}
# who opts out by what: the failures that it costs, and the recipe's line that would ask all the same
OPT_OUTS = {
    "X-Robots-Tag": (("opted_out_header",), "fetch.optout: []"),
    "robots.txt": (("opted_out_robots_txt", "robots_txt_unreachable"), "fetch.robots_txt: false"),
    "the TDM Reservation Protocol": (("opted_out_tdm",), "fetch.tdm_reservation: false"),
}
REMEDIES = {
    "refused_address": "the URLs lead to addresses inside a network, which are refused. If the servers are your own, name "
    'their network and port, e.g. fetch.allow_networks: ["127.0.0.0/8:8000"]',
    "bad_url": "these are no URLs that can be asked for: look at the url column of the source",
    "too_many_bytes": "the files are larger than fetch.max_bytes: raise it",
    "timeout": "the servers are slow: raise fetch.timeout, or lower fetch.threads",
    "deadline": "the servers are slow: raise fetch.deadline, or lower fetch.threads",
    "connection": "nothing listens there: is the server up, and the port right?",
    "opted_out_header": "the servers' X-Robots-Tag forbids this use (fetch.optout says which rules count)",
    "opted_out_robots_txt": "the sites' robots.txt forbids it (fetch.robots_txt)",
    "robots_txt_unreachable": "the sites do not say what their robots.txt forbids (fetch.robots_txt): try again later",
    "asked_to_wait": "the servers ask to be left alone for longer than fetch.longest_pause: try again later",
    "opted_out_tdm": "the sites reserve text and data mining (fetch.tdm_reservation)",
    "http_401": "the servers ask for a password: take URLs that are public",
    "http_403": "the servers refuse: take URLs that are public",
    "http_404": "the links are dead: take newer metadata, and look at one of them",
    "http_410": "the links are dead: take newer metadata, and look at one of them",
    **{name: remedy for name, (_, remedy) in CAUSES.items()},
}


class NothingFetched(UserError, RuntimeError):
    """Every attempt failed; the message names the commonest reason and its remedy. There is no snapshot."""


def deciding_settings(settings: Fetch) -> dict[str, Any]:
    """The values of the fields that decide failures, as they are written beside a round's plan."""
    tree = settings.model_dump(mode="json")
    return {field: tree[field] for field in sorted({field for fields in DECIDED_BY.values() for field in fields})}


def changed_failures(before: dict[str, Any] | None, settings: Fetch) -> list[str]:
    """The failures that these settings may turn into successes; `before`: those of the round in which they happened."""
    now = deciding_settings(settings)
    if before is None:
        return []
    return sorted(
        name for name, fields in DECIDED_BY.items() if any(before.get(field) != now[field] for field in fields)
    )


def require_something(run: Run) -> None:
    """
    Raises:
        NothingFetched: no attempt has brought an image.
    """
    reasons: Counter[str] = Counter()
    examples: dict[str, dict[str, Any]] = {}
    for attempts in latest_attempts(run, ["url", "error", "detail"]):
        if attempts["error"].null_count:
            return
        for row in attempts.to_pylist():
            reasons[row["error"]] += 1
            examples.setdefault(row["error"], row)
    if not reasons:
        return
    worst = min(reasons, key=lambda name: (-reasons[name], name))
    example = examples[worst]
    counts = ", ".join(f"{name} {count:,}" for name, count in reasons.most_common())
    why = f" ({example['detail']})" if example["detail"] else ""
    raise NothingFetched(
        f"{run.root}: none of {reasons.total():,} images was fetched: {counts}\n"
        f"  for example {example['url']}: {worst}{why}\n"
        f"  remedy: {REMEDIES.get(worst, 'ask for one of them with `curl -I URL`, and see what the server says')}. Then run "
        "the same command again: what another setting decides is tried again"
    )
