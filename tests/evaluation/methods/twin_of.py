"""A method's tiny random twin, ready to be loaded: its files in the authors' layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from evaluation.methods.base import DrawingMethod
from evaluation.methods.sources import MethodSources


def twin_of(kind: type[DrawingMethod], folder: Path, **settings) -> DrawingMethod:
    """`settings`: other than the twin's own."""
    folder.mkdir(parents=True, exist_ok=True)
    twin = kind.twin(folder)
    named = {f"{kind.name}.{role}": str(place) for role, place in twin.parts.items()}
    changes = [f"{kind.name}.{key}={value}" for key, value in {**twin.settings, **settings}.items()]
    return kind(MethodSources(named=named, changes=changes, device="cpu", dtype="fp32"))


def loaded_twins(
    kinds: Sequence[type[DrawingMethod]], folders: pytest.TempPathFactory, **settings
) -> dict[type[DrawingMethod], DrawingMethod]:
    """The twin of each, its models loaded."""
    made = {kind: twin_of(kind, folders.mktemp(kind.name), **settings) for kind in kinds}
    for twin in made.values():
        twin.load()
    return made
