"""The head of the table: what was compared, how it came about, and what a reader must know before a number."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evaluation.manifest import Leakage, read_manifest
from evaluation.sets import Method, Reference, set_hash


def head_of(references: Sequence[Reference], methods: Sequence[Method], folder: Path) -> list[str]:
    """Lines of Markdown. `folder`: of the references."""
    targets = sum(reference.target is not None for reference in references)
    facts = [*_of_the_set(folder), _people(references)]
    return [
        f"# {len(references):,} references, {targets:,} with another photo of the same person; set {set_hash(references)}",
        "",
        "Means with 95 % intervals by drawing references again, all pictures of one together; N: references behind a "
        "number. They speak of these prompts.",
        "",
        *(f"- {line}" for line in facts),
        *(f"- {item.name}: {len(item.drawn) - item.missing:,} pictures, {item.missing:,} missing" for item in methods),
    ]


def _of_the_set(folder: Path) -> list[str]:
    manifest = read_manifest(folder)
    return manifest.facts(folder) if manifest else ["references without a manifest.json; " + Leakage().sentence()]


def _people(references: Sequence[Reference]) -> str:
    said = [reference.person for reference in references if reference.person]
    if len(said) < len(references):
        return f"people: not said of {len(references) - len(said):,} references; each of these counts as a person of its own"
    return f"people: {len(set(said)):,}"
