"""Reads the samples of shards, of this project's or from elsewhere."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import numpy as np

from common.shard_format import read_array, read_record
from generation.face_input import FaceInput, FaceInputs, InputError, unusable
from generation.names import name_for_files, name_in_shards
from generation.photos import decode_photo
from generation.prompts import clean_prompt
from model.conditioning.faces import Face

MEMBER = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)")  # key and extension of a member, as WebDataset has it


def open_shards(place: Path, tars: list[Path], left_out: str) -> FaceInputs:
    """The samples of shards below the folder `place`.

    Raises:
        InputError: a file that is no shard.
    """
    counts = [_samples_in(tar) for tar in tars]
    # of one data set the keys differ; shards from elsewhere may each count from 0
    one_set = (
        len(tars) == 1
        or len({tar.parent for tar in tars}) == 1
        and all(_samples_in_sidecar(tar) is not None for tar in tars)
    )
    prefixes = ["" if one_set else tar.relative_to(place).with_suffix("").as_posix() for tar in tars]
    shards = list(zip(tars, prefixes, strict=True))
    return FaceInputs(sum(counts), lambda: (sample for shard in shards for sample in _read_shard(*shard)), left_out)


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
    return sum(1 for _ in groupby(name[1] for name in names if name))


def _samples_in_sidecar(tar: Path) -> int | None:
    """The number of samples that the JSON beside a shard gives; None where it is absent or of another kind."""
    try:
        facts = json.loads(tar.with_suffix(".json").read_bytes())
        # a sample that was taken out is still listed, without members
        samples = sum(bool(entry["members"]) for entry in facts["index"]) if "index" in facts else facts["samples"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return samples if isinstance(samples, int) else None


def _read_shard(tar: Path, prefix: str) -> Iterator[FaceInput]:
    """The samples of a shard in turn. One from elsewhere may have no landmarks: its faces are found later."""
    seen: set[str] = set()
    expected = _samples_in_sidecar(tar)
    try:
        with tarfile.open(tar) as opened:
            for key, members in groupby(_members(opened), lambda member: member[0]):
                # a key may be a path that somebody else chose: no picture may leave its folder
                name = name_in_shards(prefix, key) if prefix else name_for_files(key)
                read = {extension: data for _, extension, data in members}
                if key in seen:
                    yield unusable(name, f"{tar.name} has the key {key} twice, not side by side")
                else:
                    seen.add(key)
                    yield _sample(name, read)
    except (tarfile.TarError, OSError) as error:
        yield unusable(tar.stem, f"{tar.name} cannot be read on: {error}")
        return
    if expected is not None and len(seen) < expected:  # tarfile takes a header that is cut short for the end
        yield unusable(tar.stem, f"{tar.name} ends after {len(seen)} of {expected} samples; copy it again")


def _members(opened: tarfile.TarFile) -> Iterator[tuple[str, str, bytes]]:
    """Key, extension in small letters, and content of each member that belongs to a sample."""
    for member in opened:
        if member.isfile() and (name := MEMBER.fullmatch(member.name)):
            yield name[1].removeprefix("./"), name[2].lower(), opened.extractfile(member).read()


def _sample(name: str, members: dict[str, bytes]) -> FaceInput:
    try:
        facts = read_record(members.get("json", b"{}"))
        face = None
        if {"face_box", "face_landmarks", "face_score"} <= facts.keys() and "identity.npy" in members:
            identity = read_array(members["identity.npy"])
            face = Face(facts["face_box"], np.reshape(facts["face_landmarks"], (5, 2)), facts["face_score"], identity)
        caption = clean_prompt(members["txt"].decode()) if "txt" in members else None
    except (ValueError, TypeError, OverflowError) as error:
        return unusable(name, f"the sample is damaged: {error}")
    image = next((members[kind] for kind in ("jpg", "jpeg", "jpe", "jfif", "png", "webp") if kind in members), b"")
    if not image:
        return unusable(name, f"no JPEG, PNG or WebP picture among the sample's members ({', '.join(members)})")
    return FaceInput(name, lambda: decode_photo(image), face, caption, str(facts.get("identity_encoder", "")))
