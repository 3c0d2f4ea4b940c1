"""Paths and URLs taken letter for letter, on any filesystem; only a source's pattern is a pattern."""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import fsspec

from common.errors import UserError
from common.failures.transient import is_overload

_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")
_ONE_SLASH = re.compile(r"(s3a?|gs|gcs|file):(/(?!/)|$)")
WRITABLE = ("s3", "s3a", "gs", "gcs", "memory")  # besides paths: stores with a write that happens only once
_MAGIC = re.compile(r"[*?\[]")


class PathError(UserError, ValueError):
    """A path that its filesystem cannot hold; the message says why."""


def is_utf8(path: str) -> bool:
    """Whether a path can be written as UTF-8: a disk can also hold bytes that cannot."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def absolute(place: str | os.PathLike[str]) -> str:
    """A path made absolute, "~/" filled in; a URL as it is (but file://, which is a path)."""
    text = os.fspath(place)
    if text.startswith("file://"):
        text = text.removeprefix("file://")
    if _URL.match(text):
        return text
    # "~x" may be a folder's name
    return str((Path(text).expanduser() if text == "~" or text.startswith("~/") else Path(text)).resolve())


def require_writable_place(place: str | os.PathLike[str]) -> None:
    """Is the place a path, or in a store that is written to here? Nothing is asked of it.

    Raises:
        PathError: no, and what would do.
    """
    text = os.fspath(place)
    if _ONE_SLASH.match(text):
        scheme, _, rest = text.partition(":")
        raise PathError(f"{text}: a URL has two slashes: write {scheme}://{rest.lstrip('/')}")
    scheme, found, rest = text.partition("://")
    if found and _URL.match(text) and scheme not in (*WRITABLE, "file"):
        raise PathError(
            f"{text}: nothing can be written to {scheme}://: give a folder, s3://bucket/... or gs://bucket/..."
        )
    if found and scheme in WRITABLE and not rest.strip("/"):
        raise PathError(f"{text}: names no bucket: write {scheme}://bucket/folder")


def open_place(place: str | os.PathLike[str]) -> tuple[fsspec.AbstractFileSystem, str]:
    """The filesystem of a path or URL, and the path as that filesystem names it, letter for letter.

    fsspec's own `url_to_fs` gives "::" a meaning, its `glob`, `rm`, `get`, `put` and `cat` give one to `*?[`; neither
    has one here. Listings are not cached: what another worker wrote a moment ago must be seen.

    Raises:
        PathError: the place is in a bucket, and its name is no text.
    """
    text = absolute(place)
    protocol = text.partition("://")[0] if _URL.match(text) else "file"
    if protocol != "file" and not is_utf8(text):
        raise PathError(f"{text!a}: a bucket's keys are UTF-8 text, and this is none: take another name")
    kind = fsspec.get_filesystem_class(protocol)
    if protocol in ("s3", "s3a"):
        from s3fs.core import set_custom_error_handler

        # s3fs knows an overload by its words, and the answer to a HEAD has none
        set_custom_error_handler(is_overload)
    fs = kind(**(kind._get_kwargs_from_urls(text) | {"use_listings_cache": False}))
    return fs, text if protocol == "file" else kind._strip_protocol(text)


def open_file(place: str | os.PathLike[str]) -> BinaryIO:
    """The file at a path or URL, to read; its path is no pattern."""
    fs, path = open_place(place)
    return fs.open(path, "rb")


def files_at(place: str) -> list[str]:
    """URLs of the files that a path, URL or pattern names, sorted. What exists as it stands is itself, a folder too; so
    are the leading folders of a pattern."""
    fs, path = open_place(place)
    if fs.exists(path):
        return [fs.unstrip_protocol(path)]
    base, parts = "", path.split("/")
    while len(parts) > 1 and not (_MAGIC.search(parts[0]) and not fs.exists(base + parts[0])):
        base += parts.pop(0) + "/"
    return [fs.unstrip_protocol(hit) for hit in glob_in(fs, base, "/".join(parts), files_only=True)]


def glob_in(fs: fsspec.AbstractFileSystem, base: str, pattern: str, files_only: bool = False) -> list[str]:
    """Paths below the folder `base` that match, sorted, `base` included. Only the pattern's `*?[` have a meaning; a part
    `**` is any number of folders."""
    fs.invalidate_cache()
    level = [base.rstrip("/")]
    *folders, last = pattern.split("/")
    if last == "**":
        folders, last = [*folders, "**"], "*"
    for part in folders:
        if part == "**":
            level = [inner for folder in level for inner, _, _ in fs.walk(folder)]
        elif _MAGIC.search(part):
            level = [name for folder in level for name, kind in _entries(fs, folder, part) if kind == "directory"]
        else:
            level = [f"{folder}/{part}" for folder in level]
    found = [entry for folder in level for entry in _entries(fs, folder, last)]
    return sorted({name for name, kind in found if kind != "directory" or not files_only})


def _entries(fs: fsspec.AbstractFileSystem, folder: str, pattern: str) -> list[tuple[str, str]]:
    """Path and type of what is in a folder, by its name; none where there is no folder."""
    try:
        listed = fs.ls(folder, detail=True)
    except (FileNotFoundError, NotADirectoryError):
        return []
    pairs = [(entry["name"].rstrip("/"), entry["type"]) for entry in listed]
    return [pair for pair in pairs if pair[0] != folder and fnmatch.fnmatchcase(pair[0].rsplit("/", 1)[-1], pattern)]


def remove_folder(fs: fsspec.AbstractFileSystem, folder: str) -> None:
    """Delete a folder and what is in it."""
    if is_local(fs):
        shutil.rmtree(folder)
        return
    with ThreadPoolExecutor(16) as requests:
        list(requests.map(fs.rm_file, fs.find(folder)))


def is_local(fs: fsspec.AbstractFileSystem) -> bool:
    """Whether a filesystem is a disk of this machine (or one that is mounted on it)."""
    return "file" in (fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,))
