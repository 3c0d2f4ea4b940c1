"""Asks Ray's own command line whether it takes the options of a `ray start`."""

from __future__ import annotations

import re

import click


def ray_start_fault(words: list[str]) -> str | None:
    """What `ray start` would say to these options; None: it takes them. Nothing is started."""
    from ray.scripts.scripts import start

    plain = [re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", word) for word in words]  # Compose's defaults
    try:
        context = start.make_context("ray start", plain)
    except click.ClickException as error:
        return f"ray start: {error.format_message()}"
    return None if context.params["head"] or context.params["address"] else "ray start: neither --head nor --address"
