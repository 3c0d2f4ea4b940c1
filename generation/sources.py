"""Where the faces to draw come from: photos in a folder, or samples of shards."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.decode import ImageLimits, Undecodable, decode
from model.conditioning.faces import Face

PHOTOS = {".jpg", ".jpeg", ".png", ".webp"}
SAMPLE = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)")  # key and extension of a member, as WebDataset has it


class SourceError(ValueError):
    """Nothing to draw from; the message names the folder and the remedy."""


@dataclass(frozen=True)
class Subject:
    """A photo to draw from. `load` gives its pixels, uint8 (h, w, 3), upright; `face` is None where it is to be found.

    `name`: fit for a file's. `encoder`: fingerprint of the identity encoder that made `face.identity`, "" where there
    is none. `problem`: why nothing can be drawn from it, or "".
    """

    name: str
    load: Callable[[], np.ndarray]
    face: Face | None = None
    caption: str | None = None
    encoder: str = ""
    problem: str = ""


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
        SourceError: neither is there, photos without a prompt, or a shard that is none.
    """
    if not place.exists():
        raise SourceError(f"{place}: no such folder or file")
    tars = [place] if place.suffix == ".tar" else sorted(place.glob("*.tar"))
    if tars:
        counts = [_samples_in(tar) for tar in tars]
        # shards from elsewhere may each count from 0
        prefixes = ["" if len(tars) == 1 or _sidecar(tar) is not None else f"{tar.stem}_" for tar in tars]
        sources = list(zip(tars, prefixes, strict=True))
        return Source(sum(counts), lambda: (subject for source in sources for subject in _of_shard(*source)))
    files = [place]
    if place.is_dir():
        files = sorted(file for file in place.glob("*") if file.suffix.lower() in PHOTOS and not file.is_dir())
    if not files:
        raise SourceError(f"{place}: neither photos ({', '.join(sorted(PHOTOS))}) nor shards (.tar) are in it")
    if not prompts:
        raise SourceError("photos have no captions: give --prompt or --prompts")
    stems = Counter(file.stem for file in files)
    names = [file.stem if stems[file.stem] == 1 else file.name for file in files]
    return Source(
        len(files),
        lambda: (Subject(name, lambda file=file: _photo(file)) for name, file in zip(names, files, strict=True)),
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
    """Of one of our shards what its sidecar says, without reading it.

    Raises:
        SourceError: not a tar file.
    """
    if (said := _sidecar(tar)) is not None:
        return said
    try:
        with tarfile.open(tar) as opened:
            names = [SAMPLE.fullmatch(member.name) for member in opened if member.isfile()]
    except (tarfile.TarError, OSError) as error:
        raise SourceError(f"{tar}: no shard that can be read ({error})") from error
    return len({name[1] for name in names if name})


def _sidecar(tar: Path) -> int | None:
    """The number of samples, None where the JSON beside a shard is absent or not of our kind."""
    try:
        samples = json.loads(tar.with_suffix(".json").read_bytes())["samples"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return samples if isinstance(samples, int) else None


def _of_shard(tar: Path, prefix: str = "") -> Iterator[Subject]:
    """Samples of a shard, one after the other; of a foreign one without landmarks the faces are to be found."""
    members: dict[str, bytes] = {}
    key, read, said = None, 0, _sidecar(tar)
    try:
        with tarfile.open(tar) as opened:
            for member in opened:
                name = SAMPLE.fullmatch(member.name) if member.isfile() else None
                if name is None:
                    continue
                if key not in (None, name[1]):
                    yield _sample(prefix + key, members)
                    members, read = {}, read + 1
                key = name[1]
                members[name[2]] = opened.extractfile(member).read()
    except (tarfile.TarError, OSError) as error:
        yield Subject(tar.stem, _pixels, problem=f"{tar.name} cannot be read on: {error}")
        return
    if key is not None:
        yield _sample(prefix + key, members)
        read += 1
    if said is not None and read < said:  # tarfile takes a header that is cut short for the end
        yield Subject(tar.stem, _pixels, problem=f"{tar.name} ends after {read} of {said} samples; copy it again")


def _sample(key: str, members: dict[str, bytes]) -> Subject:
    # a key may be a path, and of somebody else's choice: pictures stay in their folder
    name = re.sub(r"[^\w.-]", "_", key.removeprefix("./"))
    try:
        facts = json.loads(members.get("json", b"{}"))
        face = None
        if {"face_box", "face_landmarks", "face_score"} <= facts.keys() and "identity.npy" in members:
            identity = np.load(io.BytesIO(members["identity.npy"]), allow_pickle=False)
            face = Face(facts["face_box"], np.reshape(facts["face_landmarks"], (5, 2)), facts["face_score"], identity)
        caption = members["txt"].decode() if "txt" in members else None
    except (ValueError, TypeError, AttributeError, EOFError) as error:
        return Subject(name, _pixels, problem=f"the sample is damaged: {error}")
    image = next((members[kind] for kind in ("jpg", "jpeg", "png", "webp") if kind in members), b"")
    return Subject(name, lambda: _pixels(image), face, caption, str(facts.get("identity_encoder", "")))


def _photo(file: Path) -> np.ndarray:
    try:
        return _pixels(file.read_bytes())
    except OSError as error:
        raise ValueError(f"the photo cannot be read: {error}") from error


def _pixels(data: bytes = b"") -> np.ndarray:
    try:
        return decode(data, ImageLimits(), full_size=True).rgb
    except Undecodable as error:
        raise ValueError(f"not a readable photo: {error}") from error
