"""The list of filters, in the paper's order: all that the rest of the curation knows of them.

A new filter is a class in a file of this folder and a line in CHECKS. Where it stands decides which reason is given
for an image that several reject; a filter comes after those that it needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import create_model

from common.settings import Section
from curation.filters.anime import Anime
from curation.filters.base import Check, DerivedCheck, Filter, Machine
from curation.filters.caption_box import CaptionBox
from curation.filters.faces import Faces
from curation.filters.grayscale import Grayscale
from curation.filters.text import Text

CHECKS: tuple[type[Check], ...] = (
    Grayscale,
    Text,
    Faces,
    CaptionBox,
    Anime,
)


def filter_classes() -> list[type[Filter]]:
    """The checks that have scores, in the paper's order."""
    return [check for check in CHECKS if issubclass(check, Filter)]


def check_names(filters: Iterable[str]) -> tuple[str, ...]:
    """The checks of a cut in the paper's order: the `filters` that are on, and what is derived from them."""
    on = set(filters)
    return tuple(
        check.name
        for check in CHECKS
        if check.name in on or (issubclass(check, DerivedCheck) and on >= set(check.needs))
    )


def check_class(name: str) -> type[Check] | None:
    """The class of a check; None for a name that this version does not know."""
    return next((check for check in CHECKS if check.name == name), None)


# the recipe's `filters`: what acts before the evidence. A filter that is not optional is always on
Filters: type[Section] = create_model(
    "Filters",
    __base__=Section,
    __module__=__name__,
    **{
        check.name: (check.Settings | None, None) if check.optional else (check.Settings, check.Settings())
        for check in filter_classes()
    },
)
# the recipe's `thresholds`: everything that can be moved without a model
Thresholds: type[Section] = create_model(
    "Thresholds",
    __base__=Section,
    __module__=__name__,
    **{check.name: (check.Thresholds, check.Thresholds()) for check in filter_classes()},
)


def open_filters(settings: Section, machine: Machine) -> dict[str, Filter]:
    """The filters that `settings` (the recipe's `filters`) has, in the paper's order. No model is loaded.

    Paths in the result are this machine's: on a cluster each worker opens its own.

    Raises:
        WeightError: a model file is missing or is not the pinned one.
    """
    opened: dict[str, Filter] = {}
    for check in filter_classes():
        own: Section | None = getattr(settings, check.name)
        if own is not None:
            fingerprints: Mapping[str, str] = {name: item.fingerprint for name, item in opened.items()}
            here = Machine(machine.limits, machine.weights, machine.device, fingerprints)
            opened[check.name] = check.open(own, here)
    return opened
