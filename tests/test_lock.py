"""Everything that is installed is pinned and has a hash; nothing that is asked for is missing from the lock."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "requirements"
LOCKED = ["lock.txt", "demo.txt", "torch.txt", "torch-cpu.txt", "uv.txt", "build.txt",
          "../curation/filters/engines/paddle.txt"]  # fmt: skip


def entries(name: str) -> list[str]:
    """Each requirement of a file with its hashes, on one line."""
    text = re.sub(r"\\\n\s*", "", (FOLDER / name).read_text())
    return [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


@pytest.mark.parametrize("name", LOCKED)
def test_every_package_is_pinned_with_a_hash(name):
    assert entries(name)
    loose = [
        line[:60]
        for line in entries(name)
        if not re.match(r"[\w.-]+(\[[\w,]+\])?==\S+.*--hash=sha256:[0-9a-f]{64}", line)
    ]
    assert not loose


@pytest.mark.parametrize(("asked", "locked"), [("requirements.in", "lock.txt"), ("demo.in", "demo.txt")])
def test_what_is_asked_for_is_locked(asked, locked):
    def names(file: str) -> set[str]:
        return {re.match(r"[\w.-]+", line)[0].lower().replace("_", "-") for line in entries(file)}

    assert names(asked) - {"torch"} <= names(locked)
    assert names("torch.in") <= names("torch.txt") & names("torch-cpu.txt")


def test_what_is_installed_is_installed_by_hash():
    files = [FOLDER / "setup.mk", FOLDER.parent / "Makefile", FOLDER.parent / "docker" / "Dockerfile"]
    installs = [line for file in files for line in file.read_text().splitlines() if "pip install" in line]
    assert installs and all("--require-hashes" in line for line in installs)
