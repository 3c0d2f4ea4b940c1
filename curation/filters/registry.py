"""The list of filters, in the paper's order: all that the rest of the curation knows of them.

A new filter is a file of this folder, with one class in it, and a line here. Where it stands decides which reason is
given for an image that several reject; a filter comes after those that it needs.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable

from pydantic import create_model

from common.settings import RecipeError, Section
from curation.filters.base import Check, DerivedCheck, Filter, Machine

# the files, which are called as the filters are; in the paper's order, and then our own
ORDER = (
    "grayscale",
    "text",
    "faces",
    "caption_box",
    "anime",
    "drawing",
    "toned",
    "quality",
    "landmarks",
)


def _class_in_file(name: str) -> type[Check]:
    """The check that the file NAME.py of this folder defines."""
    module = importlib.import_module(f"curation.filters.{name}")
    here = [item for item in vars(module).values() if isinstance(item, type) and item.__module__ == module.__name__]
    checks = [item for item in here if issubclass(item, Check)]
    if len(checks) != 1 or checks[0].name != name:
        raise TypeError(f"curation/filters/{name}.py must define one filter, with name = {name!r}; it has {checks}")
    return checks[0]


CHECKS: tuple[type[Check], ...] = tuple(_class_in_file(name) for name in ORDER)


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
        RecipeError: a filter that another one needs is off.
    """
    opened: dict[str, Filter] = {}
    for check in filter_classes():
        own: Section | None = getattr(settings, check.name)
        if own is not None:
            fingerprints = {name: item.fingerprint for name, item in opened.items()}
            if lacking := [need for need in check.needed(own) if need not in opened]:
                raise RecipeError(f"filters.{check.name} needs filters.{lacking[0]}, which is off: turn it on as well")
            here = Machine(machine.limits, machine.weights, machine.device, fingerprints)
            opened[check.name] = check.open(own, here)
    return opened
