"""References from a folder of photos: each one a reference, or, in a folder for each person, the first of it.

PHOTOS/anna.jpg, PHOTOS/anna.txt       a reference and its caption
PHOTOS/targets/anna.jpg                another photo of the same person
PHOTOS/anna/1.jpg, PHOTOS/anna/2.jpg   or: a person, the first photo the reference, the second the other photo
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from evaluation.builders.candidates import Candidate, Candidates
from evaluation.manifest import LeftOut
from evaluation.sets import SUFFIXES, TARGETS, SetError, open_references, other_files, photos_in


def from_folder(folder: Path) -> Candidates:
    """The photos in the order of their names.

    Raises:
        SetError: there is none, or two have one name.
    """
    if not folder.is_dir():
        raise SetError(f"{folder}: no such folder of photos")
    people = {
        item.name: [file for file in photos_in(item) if file.parent == item]
        for item in sorted(folder.iterdir())
        if item.is_dir() and item.name != TARGETS and item.name[0] != "."
    }
    if not any(people.values()):
        references = open_references(folder)
        yield from _unused(folder, {file for item in references for file in (item.file, item.target)})
        for item in references:
            target = item.target.read_bytes() if item.target else None
            yield Candidate(item.name, item.file.read_bytes(), item.words, target=target)
        return
    if flat := [file.name for file in photos_in(folder) if file.parent == folder]:
        raise SetError(f"{folder}: holds folders of people and photos beside them, e.g. {flat[0]}: file it as a person")
    yield from _unused(folder, {file for files in people.values() for file in files})
    for person, files in people.items():
        if not files:
            yield LeftOut(name=person, reason="its folder holds no photo that can be read here")
            continue
        reference, *more = files
        target = more[0].read_bytes() if more else None
        yield Candidate(person, reference.read_bytes(), person=person, target=target)
        yield from (
            LeftOut(name=f"{person}/{file.name}", reason="two photos of a person are enough") for file in more[1:]
        )


def _unused(folder: Path, used: Collection[Path | None]) -> Iterator[LeftOut]:
    """Files that may be photos and are not taken."""
    formats = ", ".join(sorted(SUFFIXES))
    for file in other_files(folder):
        yield LeftOut(name=str(file.relative_to(folder)), reason=f"its format is not read: photos are {formats}")
    for file in photos_in(folder):
        if file not in used:
            yield LeftOut(name=str(file.relative_to(folder)), reason="not where a photo or a target is looked for")
