"""A method's tiny random twin, ready to be loaded: its files in the authors' layout."""

from __future__ import annotations

from pathlib import Path

from evaluation.methods.base import DrawingMethod
from evaluation.methods.sources import MethodSources


def twin_of(kind: type[DrawingMethod], folder: Path, **settings) -> DrawingMethod:
    """`settings`: other than the twin's own."""
    folder.mkdir(parents=True, exist_ok=True)
    twin = kind.twin(folder)
    named = {f"{kind.name}.{role}": str(place) for role, place in twin.parts.items()}
    changes = [f"{kind.name}.{key}={value}" for key, value in {**twin.settings, **settings}.items()]
    return kind(MethodSources(named=named, changes=changes, device="cpu", dtype="fp32"))
