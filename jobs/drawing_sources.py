"""Where the faces to draw come from: photos in a folder, or samples of shards."""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from curation.image import ImageLimits, Undecodable, decode
from model.conditions import Face

PHOTOS = {".jpg", ".jpeg", ".png", ".webp"}


class SourceError(ValueError):
    """Nothing to draw from; the message names the folder and the remedy."""


@dataclass(frozen=True)
class Subject:
    """A photo to draw from. `load` gives its pixels, uint8 (h, w, 3), upright; `face` is None where it is to be found.

    `encoder`: fingerprint of the identity encoder that made `face.identity`, "" where there is none.
    """

    name: str
    load: Callable[[], np.ndarray]
    face: Face | None = None
    caption: str | None = None
    encoder: str = ""


@dataclass(frozen=True)
class Source:
    count: int
    subjects: Callable[[], Iterator[Subject]]


def prompts_of(given: list[str], file: str | None) -> list[str]:
    """Prompts from the command line, then from the file's lines.

    Raises:
        SourceError: the file is missing or empty.
    """
    if file is None:
        return given
    try:
        lines = [line.strip() for line in Path(file).read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"--prompts {file}: {error}") from error
    if not any(lines):
        raise SourceError(f"--prompts {file}: there is no prompt in it; write one a line")
    return given + [line for line in lines if line]


def open_source(place: Path, prompts: list[str]) -> Source:
    """Photos or shards at `place`.

    Raises:
        SourceError: neither is there, or photos without a prompt.
    """
    if not place.exists():
        raise SourceError(f"{place}: no such folder or file")
    tars = [place] if place.suffix == ".tar" else sorted(place.glob("*.tar"))
    if tars:
        counts = [_samples_in(tar) for tar in tars]
        return Source(sum(counts), lambda: (subject for tar in tars for subject in _of_shard(tar)))
    files = sorted(file for file in place.glob("*") if file.suffix.lower() in PHOTOS) if place.is_dir() else [place]
    if not files:
        raise SourceError(f"{place}: neither photos ({', '.join(sorted(PHOTOS))}) nor shards (.tar) are in it")
    if not prompts:
        raise SourceError("photos have no captions: give --prompt or --prompts")
    stems = Counter(file.stem for file in files)
    names = [file.stem if stems[file.stem] == 1 else file.name for file in files]
    return Source(
        len(files),
        lambda: (
            Subject(name, lambda file=file: _pixels(file.read_bytes())) for name, file in zip(names, files, strict=True)
        ),
    )


def read_photo(place: str) -> np.ndarray:
    """uint8 (h, w, 3), upright.

    Raises:
        SourceError: no such file, or not a photo.
    """
    try:
        return _pixels(Path(place).read_bytes())
    except (OSError, ValueError) as error:
        raise SourceError(f"{place}: {error}") from error


def _samples_in(tar: Path) -> int:
    sidecar = tar.with_suffix(".json")
    if sidecar.is_file():
        return json.loads(sidecar.read_text())["samples"]
    with tarfile.open(tar) as opened:
        return sum(name.endswith(".json") for name in opened.getnames())


def _of_shard(tar: Path) -> Iterator[Subject]:
    """Samples of a shard, one after the other; of a foreign one without landmarks the faces are to be found."""
    with tarfile.open(tar) as opened:
        members: dict[str, bytes] = {}
        key = None
        for member in opened:
            name, _, extension = member.name.partition(".")
            if key not in (None, name):
                yield _sample(key, members)
                members = {}
            key = name
            members[extension] = opened.extractfile(member).read()
        if key is not None:
            yield _sample(key, members)


def _sample(key: str, members: dict[str, bytes]) -> Subject:
    facts = json.loads(members.get("json", b"{}"))
    face = None
    if {"face_box", "face_landmarks"} <= facts.keys() and "identity.npy" in members:
        identity = np.load(io.BytesIO(members["identity.npy"]), allow_pickle=False)
        face = Face(facts["face_box"], np.reshape(facts["face_landmarks"], (5, 2)), facts["face_score"], identity)
    caption = members["txt"].decode() if "txt" in members else None
    image = members.get("jpg") or members.get("png") or members.get("webp") or b""
    return Subject(key, lambda: _pixels(image), face, caption, facts.get("identity_encoder", ""))


def _pixels(data: bytes) -> np.ndarray:
    try:
        return decode(data, ImageLimits(), full_size=True).rgb
    except Undecodable as error:
        raise ValueError(f"not a readable photo: {error}") from error
