"""The head of the table: what was compared, how it came about, and what a reader must know before a number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.manifest import Leakage, read_manifest
from evaluation.method_facts import differences
from evaluation.sets import Method, Reference, other_files, set_hash

ABOUT = (
    "Means with 95 % intervals by drawing references again, all pictures of one together; N: references behind a number. "
    "They speak of these prompts."
)


@dataclass(frozen=True)
class Head:
    """`facts`: sentences; `differs`: (what, of each method) that numbers may come of besides the method."""

    title: str
    facts: tuple[str, ...]
    differs: tuple[tuple[str, tuple[str, ...]], ...]

    def lines(self, methods: Sequence[Method]) -> list[str]:
        """As Markdown."""
        names = [method.name.replace("|", r"\|") for method in methods]
        rows = [("what differs", *names), ("---",) * (len(names) + 1), *((what, *of) for what, of in self.differs)]
        table = ["| " + " | ".join(row) + " |" for row in rows]
        return [f"# {self.title}", "", ABOUT, "", *(f"- {fact}" for fact in self.facts), "", *table]


def head_of(
    references: Sequence[Reference], methods: Sequence[Method], folder: Path, asked: Sequence[str] = ()
) -> Head:
    """`folder`: of the references; `asked`: sentences about prompts and seeds."""
    targets = sum(reference.target is not None for reference in references)
    title = (
        f"{len(references):,} references, {targets:,} with another photo of the same person; set {set_hash(references)}"
    )
    pictures = [
        f"{item.name}: not drawn: {item.absent}"
        if item.absent
        else f"{item.name}: {len(item.drawn) - item.missing:,} pictures, {item.missing:,} missing{strange(item)}"
        for item in methods
    ]
    facts = (*_of_the_set(folder), *_twice(references), _people(references), *asked, *pictures)
    return Head(title, facts, tuple((what, tuple(of)) for what, of in differences(methods)))


def strange(method: Method) -> str:
    """Of the files in its folder that are no picture of a reference."""
    if not method.strange:
        return ""
    return f"; {len(method.strange):,} files belong to no reference or cannot be read here, e.g. {method.strange[0]}"


def _of_the_set(folder: Path) -> list[str]:
    manifest = read_manifest(folder)
    told = manifest.facts(folder) if manifest else ["references without a manifest.json; " + Leakage().sentence()]
    if other := other_files(folder):
        told.append(f"NOT READ of the references' folder: {len(other):,} files of other formats, e.g. {other[0].name}")
    return told


def _twice(references: Sequence[Reference]) -> list[str]:
    same = [item for item in references if item.same_as]
    if not same:
        return []
    example = f"{same[0].name} is {same[0].same_as}"
    return [
        f"THE SAME BYTES as another reference: {len(same):,}, e.g. {example}; N counts a photo once, with all its pictures"
    ]


def _people(references: Sequence[Reference]) -> str:
    said = [reference.person for reference in references if reference.person]
    if len(said) < len(references):
        silent = len({reference.unit for reference in references if not reference.person})
        return f"people: not said of {silent:,} references; each of these counts as a person of its own"
    return f"people: {len(set(said)):,}"
