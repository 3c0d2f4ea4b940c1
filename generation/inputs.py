"""Reads what is drawn from: the photos of a folder, or the samples of shards."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.errors import UserError
from generation.photos import decode_photo, read_photo
from model.conditioning.faces import Face

PHOTO_SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp"}
OTHER_PICTURES = {".heic", ".heif", ".avif", ".jxl", ".gif", ".bmp", ".tif", ".tiff", ".dng", ".cr2", ".nef", ".arw"}
LONGEST_NAME = 150  # bytes; of the 255 that a file's name may have
MEMBER = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)")  # key and extension of a member, as WebDataset has it


class InputError(UserError, ValueError):
    """Options that nothing can be drawn from; the message names the option or the folder, and the remedy."""


@dataclass(frozen=True)
class FaceInput:
    """A photo to draw from. `load` gives its pixels, uint8 (h, w, 3), upright; `face` is None where it is to be found.

    `name`: usable in a file name. `encoder`: fingerprint of the encoder that made `face.identity`, "" where there
    is none. `problem`: why nothing can be drawn from it, or "".
    """

    name: str
    load: Callable[[], np.ndarray]
    face: Face | None = None
    caption: str | None = None
    encoder: str = ""
    problem: str = ""


@dataclass(frozen=True)
class FaceInputs:
    """All photos to draw from: their number, and `read`, which reads them one after the other."""

    count: int
    read: Callable[[], Iterator[FaceInput]]


def read_prompts(given: list[str], file: str | None) -> list[str]:
    """Prompts from the command line, then from the file's lines.

    Raises:
        InputError: the file is missing or empty.
    """
    for prompt in given:
        if any("\ud800" <= letter <= "\udfff" for letter in prompt):
            raise InputError("--prompt: not UTF-8; type it in a terminal of UTF-8, or give --prompts FILE")
    given = [clean_prompt(prompt) for prompt in given]
    if file is None:
        return given
    try:
        lines = [clean_prompt(line) for line in re.split(r"\r\n|\r|\n", Path(file).read_bytes().decode("utf-8-sig"))]
    except OSError as error:
        raise InputError(f"--prompts {file}: {error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"--prompts {file}: not UTF-8 ({error}); save it as UTF-8") from error
    if not any(lines):
        raise InputError(f"--prompts {file}: there is no prompt in it; write one a line")
    return given + [line for line in lines if line]


def clean_prompt(text: str) -> str:
    """One line: what Unicode counts as white space or as the end of a line is one space; no byte order mark."""
    return " ".join(text.replace("\ufeff", "").split())


def name_for_files(key: str) -> str:
    """A name for output files that no other key has, whatever letters and however many are in it.

    A key that no file name can have ends in a hash of itself: `a b` stays, `a/b` becomes `a_b-HASH`.
    """
    name = re.sub(r"[^\w. ()+,=@~-]|^\.+", "_", key)
    if name == key and len(name.encode()) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(os.fsencode(key)).hexdigest()[:12]
    return f"{name.encode()[:LONGEST_NAME].decode(errors='ignore')}-{digest}"


def open_inputs(place: Path, prompts: list[str]) -> FaceInputs:
    """Photos or shards at `place`.

    Raises:
        InputError: neither is there, photos without a prompt, or a shard that is none.
    """
    if not place.exists():
        raise InputError(f"{place}: no such folder or file")
    tars = [place] if place.suffix == ".tar" else sorted(place.glob("*.tar"))
    if tars:
        counts = [_samples_in(tar) for tar in tars]
        # shards from elsewhere may each count from 0
        prefixes = ["" if len(tars) == 1 or _samples_in_sidecar(tar) is not None else f"{tar.stem}_" for tar in tars]
        shards = list(zip(tars, prefixes, strict=True))
        return FaceInputs(sum(counts), lambda: (sample for shard in shards for sample in _read_shard(*shard)))
    files = [place]
    if place.is_dir():
        taken = PHOTO_SUFFIXES | OTHER_PICTURES
        files = sorted(file for file in place.iterdir() if file.suffix.lower() in taken and not file.is_dir())
    if not files:
        raise InputError(f"{place}: neither photos ({', '.join(sorted(PHOTO_SUFFIXES))}) nor shards (.tar) are in it")
    if not prompts:
        raise InputError("photos have no captions: give --prompt or --prompts")
    stems, whole = Counter(file.stem for file in files), {file.name for file in files}
    short = [stems[file.stem] == 1 and file.stem not in whole for file in files]
    names = [name_for_files(file.stem if free else file.name) for file, free in zip(files, short, strict=True)]
    return FaceInputs(len(files), lambda: (_photo(name, file) for name, file in zip(names, files, strict=True)))


def _photo(name: str, file: Path) -> FaceInput:
    if (kind := file.suffix.lower()) in OTHER_PICTURES:
        return _unusable(name, f"{kind[1:].upper()} pictures are not read; convert it to JPEG, PNG or WebP")
    return FaceInput(name, lambda: read_photo(file))


def _samples_in(tar: Path) -> int:
    """The number of samples in a shard: its sidecar's, or else counted.

    Raises:
        InputError: not a tar file.
    """
    if (count := _samples_in_sidecar(tar)) is not None:
        return count
    try:
        with tarfile.open(tar) as opened:
            names = [MEMBER.fullmatch(member.name) for member in opened if member.isfile()]
    except (tarfile.TarError, OSError) as error:
        raise InputError(f"{tar}: no shard that can be read ({error})") from error
    return len({name[1] for name in names if name})


def _samples_in_sidecar(tar: Path) -> int | None:
    """The number of samples that the JSON beside a shard gives; None where it is absent or of another kind."""
    try:
        samples = json.loads(tar.with_suffix(".json").read_bytes())["samples"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return samples if isinstance(samples, int) else None


def _read_shard(tar: Path, prefix: str = "") -> Iterator[FaceInput]:
    """The samples of a shard in turn. One from elsewhere may have no landmarks: its faces are found later."""
    members: dict[str, bytes] = {}
    key, read, expected = None, 0, _samples_in_sidecar(tar)
    try:
        with tarfile.open(tar) as opened:
            for member in opened:
                name = MEMBER.fullmatch(member.name) if member.isfile() else None
                if name is None:
                    continue
                if key not in (None, name[1]):
                    yield _read_sample(prefix + key, members)
                    members, read = {}, read + 1
                key = name[1]
                members[name[2].lower()] = opened.extractfile(member).read()
    except (tarfile.TarError, OSError) as error:
        yield _unusable(tar.stem, f"{tar.name} cannot be read on: {error}")
        return
    if key is not None:
        yield _read_sample(prefix + key, members)
        read += 1
    if expected is not None and read < expected:  # tarfile takes a header that is cut short for the end
        yield _unusable(tar.stem, f"{tar.name} ends after {read} of {expected} samples; copy it again")


def _read_sample(key: str, members: dict[str, bytes]) -> FaceInput:
    # a key may be a path that somebody else chose: no picture may leave its folder
    name = name_for_files(key.removeprefix("./"))
    try:
        facts = json.loads(members.get("json", b"{}"))
        face = None
        if {"face_box", "face_landmarks", "face_score"} <= facts.keys() and "identity.npy" in members:
            identity = np.load(io.BytesIO(members["identity.npy"]), allow_pickle=False)
            face = Face(facts["face_box"], np.reshape(facts["face_landmarks"], (5, 2)), facts["face_score"], identity)
        caption = clean_prompt(members["txt"].decode()) if "txt" in members else None
    except (ValueError, TypeError, AttributeError, EOFError) as error:
        return _unusable(name, f"the sample is damaged: {error}")
    image = next((members[kind] for kind in ("jpg", "jpeg", "jpe", "jfif", "png", "webp") if kind in members), b"")
    if not image:
        return _unusable(name, f"no JPEG, PNG or WebP picture among the sample's members ({', '.join(members)})")
    return FaceInput(name, lambda: decode_photo(image), face, caption, str(facts.get("identity_encoder", "")))


def _unusable(name: str, problem: str) -> FaceInput:
    """An input whose only use is to say why there is no picture of it."""
    return FaceInput(name, lambda: decode_photo(b""), problem=problem)
