"""References from a folder of photos: each one a reference, or, in a folder for each person, the first of it.

PHOTOS/anna.jpg, PHOTOS/anna.txt       a reference and its caption
PHOTOS/targets/anna.jpg                another photo of the same person
PHOTOS/anna/1.jpg, PHOTOS/anna/2.jpg   or: a person, the first photo the reference, the second the other photo
"""

from __future__ import annotations

from pathlib import Path

from evaluation.builders.candidates import Candidate, Candidates
from evaluation.manifest import LeftOut
from evaluation.sets import SUFFIXES, TARGETS, SetError, open_references


def from_folder(folder: Path) -> Candidates:
    """The photos in the order of their names.

    Raises:
        SetError: there is none, or two have one name.
    """
    people = {
        item.name: sorted(file for file in item.iterdir() if file.suffix.lower() in SUFFIXES and file.name[0] != ".")
        for item in sorted(folder.iterdir() if folder.is_dir() else ())
        if item.is_dir() and item.name != TARGETS and item.name[0] != "."
    }
    if not any(people.values()):
        for item in open_references(folder):
            target = item.target.read_bytes() if item.target else None
            yield Candidate(item.name, item.file.read_bytes(), item.words, target=target)
        return
    if flat := [file.name for file in folder.iterdir() if file.suffix.lower() in SUFFIXES]:
        raise SetError(f"{folder}: holds folders of people and photos beside them, e.g. {flat[0]}: file it as a person")
    for person, (reference, *more) in ((name, files) for name, files in people.items() if files):
        target = more[0].read_bytes() if more else None
        yield Candidate(person, reference.read_bytes(), person=person, target=target)
        yield from (
            LeftOut(name=f"{person}/{file.name}", reason="two photos of a person are enough") for file in more[1:]
        )
