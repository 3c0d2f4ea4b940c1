"""A method's part in a bucket: copied to this machine once, and again where it is another one since."""

from __future__ import annotations

import shutil
from pathlib import Path

from common.errors import UserError
from common.hashing import canonical_json, sha256_of_bytes
from common.pinned_files.packages import cache_dir
from common.storage import Storage


def fetched(place: str) -> Path:
    """The copy of a folder, or of a file, of s3://... or gs://... in this machine's cache, under a name of what it holds.

    Raises:
        UserError: nothing is there.
    """
    parent, _, name = place.rstrip("/").rpartition("/")
    beside = Storage(parent)
    is_file = name in (there := beside.sizes(""))
    folder = beside if is_file else Storage(place)
    sizes = {name: there[name]} if is_file else {path: folder.size(path) for path in folder.files()}
    if not sizes:
        raise UserError(f"{place}: nothing is there")
    held = sha256_of_bytes(canonical_json([place, sizes]).encode())[:16]
    copy = cache_dir() / "evaluation" / held
    file = copy / name if is_file else copy
    if copy.is_dir():
        return file
    unfinished = copy.with_name(f"{held}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    for path in sizes:
        (unfinished / path).parent.mkdir(parents=True, exist_ok=True)
        folder.get_file(path, unfinished / path)
    unfinished.rename(copy)
    return file
