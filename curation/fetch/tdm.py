"""The TDM Reservation Protocol (W3C community group): who reserves the right to text and data mining, and where.

A header `tdm-reservation` decides for its own answer; without one, the first rule of the site's
/.well-known/tdmrep.json that matches the path does.
https://www.w3.org/community/reports/tdmrep/CG-FINAL-tdmrep-20240510/
"""

from __future__ import annotations

import json
import re

PATH = "/.well-known/tdmrep.json"
Rule = tuple[str, bool]  # (pattern of paths, reserved)


def rules_of(body: bytes) -> tuple[Rule, ...]:
    """The rules of a tdmrep.json, in order; none where it is not one: many sites answer every path with a page."""
    try:
        listed = json.loads(body)
    except (ValueError, RecursionError):
        return ()
    if not isinstance(listed, list):
        return ()
    return tuple(
        (rule["location"], str(rule.get("tdm-reservation")).strip() == "1")
        for rule in listed
        if isinstance(rule, dict) and isinstance(rule.get("location"), str)
    )


def reserved(header: str | None, rules: tuple[Rule, ...], selector: str) -> bool:
    """Whether the answer to `selector` (path and query) is reserved."""
    if header is not None and header.strip() in ("0", "1"):
        return header.strip() == "1"
    return next((reserves for pattern, reserves in rules if _matches(pattern, selector)), False)


def _matches(pattern: str, selector: str) -> bool:
    """As in robots.txt: the path begins so; * is any letters, $ the end."""
    anchored = pattern.endswith("$")
    pieces = [re.escape(piece) for piece in pattern.removesuffix("$").split("*")]
    if pattern and not pattern.startswith(("/", "*")):
        pieces[0] = "/" + pieces[0]
    return re.match(".*?".join(pieces) + ("$" if anchored else ""), selector, re.DOTALL) is not None
