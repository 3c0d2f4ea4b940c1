"""The built wheel holds every file of the packages, code and data."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("common", "curation", "evaluation", "generation", "jobs", "model", "training")
TO_BUILD = ("pyproject.toml", "README.md", "requirements")


def test_the_wheel_holds_every_file_of_the_packages(tmp_path):
    listed = subprocess.run(["git", "ls-files", *PACKAGES, *TO_BUILD], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout: which files belong to it is not known")
    files = [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]
    for name in files:
        copy = tmp_path / "source" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, copy)
    subprocess.run(
        [*(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-q"),
         *("--wheel-dir", str(tmp_path), str(tmp_path / "source"))],
        check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {name for name in files if name.startswith(PACKAGES) and not name.endswith(".png")}
    assert inside == expected
