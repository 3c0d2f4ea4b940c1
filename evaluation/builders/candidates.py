"""What every source of references gives: a photo with what is known of it, or why there is none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from evaluation.manifest import LeftOut


@dataclass(frozen=True)
class Candidate:
    """A photo that may become a reference. `key`: its name in the source; `data`, `target`: bytes of image files."""

    key: str
    data: bytes
    words: str = ""
    person: str = ""
    id: str = ""
    url: str = ""
    licence: str = ""
    target: bytes | None = None


Candidates = Iterator[Candidate | LeftOut]
