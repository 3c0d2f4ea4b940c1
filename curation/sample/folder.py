"""The sample's folder: photos out of packages, metadata in the true schemas, and a web that misbehaves.

The folder appears whole or not at all; a second call finds it and returns at once. Nothing but the packages'
downloads touches the network.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.progress import console

STAMP = "sample.json"
STALE = 3600.0  # seconds; no sample takes so long to make


class SampleError(UserError, RuntimeError):
    """The sample cannot be made here; the message says why and what to do."""


def version() -> str:
    """What the sample's bytes follow from: the code and the stored boxes beside this file."""
    hasher = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*")):
        if path.suffix in (".py", ".json"):
            hasher.update(path.name.encode() + path.read_bytes())
    return hasher.hexdigest()[:16]


def is_complete(out: Path) -> bool:
    """Whether the sample of this version of the code is there."""
    try:
        return json.loads((out / STAMP).read_text())["version"] == version()
    except (OSError, ValueError, KeyError):
        return False


def make_sample(out: Path) -> dict[str, Any]:
    """Make the sample in `out` unless it is there. Returns what sample.json holds.

    Raises:
        PackageError: a package cannot be had.
        SampleError: `out` is a folder with something else in it.
    """
    out = out.expanduser().absolute()
    if not is_complete(out):
        # imported here: a rerun that finds the sample is done before torch and OpenCV are loaded
        from curation.sample.contents import write_contents, write_json

        if out.exists() and not (out / STAMP).exists() and any(out.iterdir()):
            raise SampleError(f"{out} holds something else than a sample: choose another folder with --out")
        out.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(out)
        scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}-", suffix=".tmp", dir=out.parent))
        try:
            scratch.chmod(0o755)
            counts = write_contents(scratch, console)
            write_json(scratch / STAMP, {"version": version(), **counts})
            _put_in_place(scratch, out)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return json.loads((out / STAMP).read_text())


def _remove_leftovers(out: Path) -> None:
    """Remove what a killed process left; that of one at work is younger."""
    for left in out.parent.glob(f".{out.name}-*.tmp"):
        if time.time() - left.stat().st_mtime > STALE:
            shutil.rmtree(left, ignore_errors=True)


def _put_in_place(scratch: Path, out: Path) -> None:
    """Put the finished folder in place; an older sample goes, one that another process just made stays."""
    if is_complete(out):
        return
    if out.exists():
        # renamed first: removing takes time, and a half-removed sample must not be found under its name
        old = Path(tempfile.mkdtemp(prefix=f".{out.name}-", suffix=".tmp", dir=out.parent))
        out.rename(old / "old")
        shutil.rmtree(old, ignore_errors=True)
    scratch.rename(out)
