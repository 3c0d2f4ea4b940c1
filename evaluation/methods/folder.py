"""Photos in the place of a method's pictures: the references themselves, which is what copying reaches, and other people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evaluation.asked import Asked
from evaluation.sets import Drawn, Method, Reference

CEILING, FLOOR = "the references", "other people"


def references_themselves(references: Sequence[Reference], asked: Asked) -> Method:
    """The references in the place of pictures, for the same prompts: what copying reaches."""
    return _instead(CEILING, references, asked, {item.name: item.file for item in references})


def other_people(references: Sequence[Reference], asked: Asked) -> Method:
    """The next reference's photo in the place of each picture: what somebody else reaches. None of a single reference."""
    following = [item.file for item in (*references[1:], *references[:1])]
    files = dict(zip((item.name for item in references), following, strict=True)) if len(references) > 1 else {}
    return _instead(FLOOR, references, asked, files)


def _instead(name: str, references: Sequence[Reference], asked: Asked, files: dict[str, Path]) -> Method:
    drawn = (
        Drawn(reference, prompt.name, seed, files.get(reference.name), prompt.words)
        for reference in references
        for prompt in asked.prompts
        for seed in asked.seeds
    )
    return Method(name, tuple(drawn), (), competes=False)
