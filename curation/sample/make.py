"""Make the sample: photos out of packages, metadata in the true schemas, and a web that misbehaves.

    python -m curation.sample.make [--out DIR]

The folder appears whole or not at all; a second call finds it and returns at once. Nothing but the packages'
downloads touches the network.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from common.errors import UserError
from common.packages import PackageError, cache_dir

STAMP = "sample.json"
STALE = 3600.0  # seconds
console = Console(stderr=True, highlight=False, soft_wrap=True)


class SampleError(UserError, RuntimeError):
    """The sample cannot be made here; the message says why and what to do."""


def version() -> str:
    """What the sample's bytes follow from: the code and the stored boxes beside this file."""
    hasher = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*")):
        if path.suffix in (".py", ".json"):
            hasher.update(path.name.encode() + path.read_bytes())
    return hasher.hexdigest()[:16]


def is_made(out: Path) -> bool:
    try:
        return json.loads((out / STAMP).read_text())["version"] == version()
    except (OSError, ValueError, KeyError):
        return False


def make(out: Path) -> dict[str, Any]:
    """Make the sample in `out` unless it is there; what sample.json holds.

    Raises:
        PackageError: a package cannot be had.
        SampleError: `out` is a folder with something else in it.
    """
    out = out.expanduser().absolute()
    if not is_made(out):
        # imported here: a rerun that finds the sample is done before torch and OpenCV are loaded
        from curation.sample.build import build, write_json

        if out.exists() and not (out / STAMP).exists() and any(out.iterdir()):
            raise SampleError(f"{out} holds something else than a sample: choose another folder with --out")
        out.parent.mkdir(parents=True, exist_ok=True)
        _sweep(out)
        scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}-", suffix=".tmp", dir=out.parent))
        try:
            scratch.chmod(0o755)
            counts = build(scratch, console)
            write_json(scratch / STAMP, {"version": version(), **counts})
            _swap(scratch, out)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return json.loads((out / STAMP).read_text())


def _sweep(out: Path) -> None:
    """Remove what a killed maker left; one that is at work is younger than that."""
    for left in out.parent.glob(f".{out.name}-*.tmp"):
        if time.time() - left.stat().st_mtime > STALE:
            shutil.rmtree(left, ignore_errors=True)


def _swap(scratch: Path, out: Path) -> None:
    """Put the finished folder in place; an older sample goes, one that another process just made stays."""
    if is_made(out):
        return
    if out.exists():
        # renamed first: removing takes time, and a half-removed sample must not be found under its name
        old = Path(tempfile.mkdtemp(prefix=f".{out.name}-", suffix=".tmp", dir=out.parent))
        out.rename(old / "old")
        shutil.rmtree(old, ignore_errors=True)
    scratch.rename(out)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the sample that `make curate` runs on.")
    parser.add_argument("--out", type=Path, default=cache_dir() / "sample", help="default: %(default)s")
    options = parser.parse_args()
    there = is_made(options.out)
    try:
        counts = make(options.out)
    except (PackageError, SampleError) as error:
        raise SystemExit(f"sample: {error}") from None
    console.print(
        f"sample {'is there' if there else 'made'}: {options.out}  "
        f"{counts['photos']} photos, {counts['made']} made ones, {counts['urls']} URLs, "
        f"{counts['facecaption']['rows']} rows of FaceCaption, {counts['laion_face']['rows']} of LAION-Face"
    )


if __name__ == "__main__":
    main()
