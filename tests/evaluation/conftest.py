"""Two people, three photos of each, from a package: references, targets, and methods with a known answer."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from curation.sample.photos import FACE_RECOGNITION

PEOPLE = {"biden": "biden.jpg", "obama": "obama.jpg"}
OTHER_PHOTOS = {"obama": "obama2.jpg"}


class Sets(NamedTuple):
    """`copies`: the references themselves; `targets`: the other photo; `swapped`: the other person."""

    references: Path
    copies: Path
    targets: Path
    swapped: Path


@pytest.fixture(scope="session")
def sets(tmp_path_factory) -> Sets:
    root = tmp_path_factory.mktemp("sets")
    photos = {path.name: path for path in FACE_RECOGNITION.fetch().rglob("tests/test_images/*.jpg")}
    made = Sets(*(root / name for name in Sets._fields))
    for folder in (*made, made.references / "targets"):
        folder.mkdir()
    for name, file in PEOPLE.items():
        other = next(person for person in PEOPLE if person != name)
        shutil.copy(photos[file], made.references / f"{name}.jpg")
        shutil.copy(photos[file], made.copies / f"{name}.jpg")
        shutil.copy(photos[PEOPLE[other]], made.swapped / f"{name}.jpg")
    for name, file in OTHER_PHOTOS.items():
        shutil.copy(photos[file], made.references / "targets" / f"{name}.jpg")
        shutil.copy(photos[file], made.targets / f"{name}.jpg")
    return made
