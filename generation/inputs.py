"""Finds what is drawn from: the photos of a folder, or the shards."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from generation.face_input import FaceInput, FaceInputs, InputError, unusable
from generation.names import names_of_photos
from generation.photos import read_photo
from generation.shards import open_shards

PHOTO_SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp"}
OTHER_PICTURES = {".heic", ".heif", ".avif", ".jxl", ".gif", ".bmp", ".tif", ".tiff", ".dng", ".cr2", ".nef", ".arw"}

BESIDE_SHARDS = {"sizes.json", "README.md"}  # of a folder that the curation packed, beside each shard's own .json


def open_inputs(place: Path, prompts: list[str], recursive: bool = False, out: Path | None = None) -> FaceInputs:
    """Photos or shards at `place`, and in its sub-folders if asked; `out`, where pictures are drawn to, is left out.

    Raises:
        InputError: neither is there, photos without a prompt, or a shard that is none.
    """
    if not place.exists():
        raise InputError(f"{place}: no such folder or file")
    if not place.is_dir():
        return _open(place.parent, [place], "", prompts)
    if out is not None and out.exists() and out.samefile(place):
        raise InputError(f"--out {out} is the source: the next run would draw from its pictures; name another folder")
    files, folders = _files_in(place, recursive, out)
    taken = PHOTO_SUFFIXES | OTHER_PICTURES
    chosen = [file for file in files if file.suffix.lower() == ".tar"]
    chosen = chosen or [file for file in files if file.suffix.lower() in taken]
    also = f"; --recursive reads its {folders} sub-folder{'s' * (folders > 1)}" if folders and not recursive else ""
    if not chosen:
        raise InputError(
            f"{place}: neither photos ({', '.join(sorted(PHOTO_SUFFIXES))}) nor shards (.tar) are in it{also}"
        )
    described = set(chosen)
    for tar in (file for file in chosen if file.suffix.lower() == ".tar"):
        described |= {tar.with_suffix(".json"), *(tar.parent / name for name in BESIDE_SHARDS)}
    others = [file for file in files if file not in described]
    return _open(place, chosen, _left_out(others, folders, recursive), prompts)


def _open(place: Path, files: list[Path], left_out: str, prompts: list[str]) -> FaceInputs:
    """`files`: all of them shards, or all of them photos, below the folder `place`."""
    if files[0].suffix.lower() == ".tar":
        return open_shards(place, files, left_out)
    if not prompts:
        raise InputError("photos have no captions: give --prompt or --prompts")
    names = names_of_photos([file.relative_to(place) for file in files])
    return FaceInputs(len(files), lambda: (_photo(*pair) for pair in zip(names, files, strict=True)), left_out)


def _files_in(place: Path, recursive: bool, out: Path | None) -> tuple[list[Path], int]:
    """All files of a folder in their order, and the number of folders in it that are not read, `out` not among them.

    Raises:
        OSError: a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise error

    found, unread = [], 0
    for folder, folders, names in os.walk(place, onerror=refuse):
        found += [Path(folder, name) for name in names]
        of_shards = any(name.lower().endswith(".tar") for name in names)
        for below in [Path(folder, name) for name in folders]:
            # cached/ beside shards: what the encoders made of them (jobs/cache.py)
            own = below.name == "cached" and of_shards or out is not None and below.resolve() == out.resolve()
            if own or not recursive or below.is_symlink():
                folders.remove(below.name)
                unread += not own
    return sorted(found), unread


def _left_out(files: list[Path], folders: int, recursive: bool) -> str:
    """A sentence about what is in the source and is not drawn from; "" where that is nothing."""
    endings = Counter(file.suffix.lower() or "without extension" for file in files)
    parts = [f"{number} {kind}" for kind, number in endings.most_common(5)]
    if rest := len(files) - sum(number for _, number in endings.most_common(5)):
        parts.append(f"{rest} other files")
    if folders:
        kind = "link to a folder" if recursive else "sub-folder (--recursive reads it)"
        kinds = "links to folders" if recursive else "sub-folders (--recursive reads them)"
        parts.append(f"{folders} {kind if folders == 1 else kinds}")
    return "not read: " + ", ".join(parts) if parts else ""


def _photo(name: str, file: Path) -> FaceInput:
    if (kind := file.suffix.lower()) in OTHER_PICTURES:
        return unusable(name, f"{kind[1:].upper()} pictures are not read; convert it to JPEG, PNG or WebP")
    return FaceInput(name, lambda: read_photo(file))
