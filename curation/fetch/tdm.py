"""The TDM Reservation Protocol (W3C community group): who reserves the right to text and data mining, and where.

As the final report of 10 May 2024 has it (https://www.w3.org/community/reports/tdmrep/CG-FINAL-tdmrep-20240510/):

- Priority: the header of an answer supersedes the file of its site, so a header of 0 frees what the file reserves.
  Metadata within HTML, EPUB or PDF would supersede both; an image has none.
- In the file "the most specific match is the first in sequence": the order decides, not the length as in robots.txt.
- A value that is neither 0 nor 1 is a protocol error and counts as unset: the header as if it were not there, a rule of
  the file as if it were not written. Unset everywhere means not reserved.
- A site that does not show the file does not implement the protocol.

Ours, where the report is silent: a header that says both 0 and 1 reserves.
"""

from __future__ import annotations

import json
import re
from string import ascii_letters, digits, punctuation
from typing import Any
from urllib.parse import quote

PATH = "/.well-known/tdmrep.json"
Rule = tuple[str, bool]  # (pattern of paths, reserved)
UNRESERVED = frozenset(ascii_letters + digits + "-._~")  # RFC 3986


def rules_of(body: bytes) -> tuple[Rule, ...]:
    """The rules of a tdmrep.json, in order; none where it is not one: many sites answer every path with a page."""
    try:
        listed = json.loads(body)
    except (ValueError, RecursionError):
        return ()
    if not isinstance(listed, list):
        return ()
    rules = [rule for rule in listed if isinstance(rule, dict) and isinstance(rule.get("location"), str)]
    values = [(rule["location"], _value(rule.get("tdm-reservation"))) for rule in rules]
    return tuple((location, reserves) for location, reserves in values if reserves is not None)


def reserved(headers: list[str], rules: tuple[Rule, ...], selector: str) -> bool:
    """Whether the answer to `selector` (path and query) is reserved. `headers`: its `tdm-reservation` lines."""
    said = [_value(piece) for piece in ",".join(headers).split(",")]
    if any(value is not None for value in said):
        return True in said
    return next((reserves for pattern, reserves in rules if _matches(pattern, selector)), False)


def _value(written: Any) -> bool | None:
    if isinstance(written, bool) or not isinstance(written, int | str):
        return None
    return {"0": False, "1": True}.get(str(written).strip())


def _matches(pattern: str, selector: str) -> bool:
    """As in robots.txt: the path begins so; * is any letters, $ the end, and %2A and %24 those letters themselves."""
    selector = _comparable(selector).replace("*", "%2A").replace("$", "%24")
    anchored = pattern.endswith("$")
    pattern = _comparable(pattern.removesuffix("$")).replace("$", "%24")
    if not pattern.startswith(("/", "*")):
        pattern = "/" + pattern
    # each piece at its first place, which takes no longer than the text is: as a regular expression, a few dozen * in
    # a file of rules would keep us busy for years
    first, *pieces = pattern.split("*")
    if not selector.startswith(first):
        return False
    at = len(first)
    last = pieces.pop() if anchored and pieces else None
    for piece in pieces:
        found = selector.find(piece, at)
        if found < 0:
            return False
        at = found + len(piece)
    if last is not None:
        return selector.endswith(last) and len(selector) - len(last) >= at
    return not anchored or at == len(selector)


def _comparable(text: str) -> str:
    """Written as it can be compared: letters that never need it not percent-encoded, those beyond ASCII so in UTF-8."""
    text = quote(text, safe=ascii_letters + digits + punctuation, errors="replace")

    def decoded(code: re.Match[str]) -> str:
        letter = chr(int(code[1], 16))
        return letter if letter in UNRESERVED else code[0].upper()

    return re.sub("%([0-9A-Fa-f]{2})", decoded, text)
