"""X-Robots-Tag: which rules of an answer's headers are meant for us.

As Google describes it, which invented it: a header is a list of rules with commas between them. A user agent with a
colon may stand before a rule, and then that rule and those after it, up to the next user agent, are for that agent
alone. Some rules have a parameter, which is a colon as well; a date in it may have a comma.
https://developers.google.com/search/docs/crawling-indexing/robots-meta-tag
"""

from __future__ import annotations

import re

RULES = frozenset(
    "all none noindex nofollow noarchive nocache nosnippet notranslate noimageindex noimageclick noydir noodp "
    "nositelinkssearchbox nopagereadaloud indexifembedded index follow archive snippet noai noimageai".split()
)
PARAMETRISED = frozenset("max-snippet max-image-preview max-video-preview unavailable_after".split())
AGENT = re.compile(r"[\w.*/+-]+")  # a date ("25 Jun 2025 15" before the colon of its time) has blanks
# spellings of those who mix it up with <meta name="robots"> or with the header's own name; an opt-out is one all the same
EVERYBODY = ("*", "robots", "x-robots-tag")
AROUND = " \t\r\n\"'."
MEANS = {"none": ("none", "noindex", "nofollow")}


def rules_for(headers: list[str], agent: str | None) -> set[str]:
    """The rules for everybody and for `agent` in the X-Robots-Tag headers of an answer, in lower case."""
    mine = {*EVERYBODY, (agent or "*").strip().lower()}
    rules: set[str] = set()
    for header in headers:
        scope = "*"  # each header begins anew: a list for another agent ends with its line
        for part in re.split("[,;]", header):
            name, value = _agent_and_rule(part.strip(AROUND).lower())
            scope = name.partition("/")[0] if name else scope  # "facemakeup/1.0"
            if scope in mine:
                rule = value.partition(":")[0].strip(AROUND)
                words = rule.split()
                for word in words if RULES.issuperset(words) else [rule]:
                    rules.update(MEANS.get(word, (word,)))
    return rules - {""}


def _agent_and_rule(text: str) -> tuple[str | None, str]:
    """("otherbot", "noai") of "otherbot: noai"; (None, text) where no agent is named."""
    name, colon, value = (piece.strip() for piece in text.partition(":"))
    if not colon or name in PARAMETRISED or not AGENT.fullmatch(name):
        return None, text
    first = value.partition(":")[0].strip()
    if name in RULES or (first and first not in RULES and first not in PARAMETRISED):
        return None, text  # a parameter of a rule that is not known yet: who it is for does not change
    return name, value
