"""A mistake in a tree of YAML, to see whether a check finds it."""

from __future__ import annotations

from typing import Any


def plant(tree: Any, place: str, value: Any) -> None:
    """At "a.b.0.c" another value, or nothing where `value` is None."""
    *path, last = [int(part) if part.isdecimal() else part for part in place.split(".")]
    for part in path:
        tree = tree[part]
    if value is None:
        del tree[last]
    else:
        tree[last] = value
