"""`make lint` sees the arrows of docs/architecture.md: a circle, or an arrow against them, fails it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.world import ROOT

ROOMS = ("common", "model", "curation", "training", "generation", "evaluation", "jobs")


@pytest.fixture
def project(tmp_path) -> Path:
    for room in ROOMS:
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(project: Path) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).parent / "lint-imports", "--no-logo", "--no-cache"]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=120)


def plant(project: Path, file: str, line: str) -> None:
    """As the worst place for it: inside a function."""
    with open(project / file, "a") as source:
        source.write(f"\n\ndef planted() -> None:\n    {line}\n")


def test_the_project_as_it_is_passes(project):
    assert lint(project).returncode == 0


# file, what it then imports, what is said of it
PLANTED = [
    ("common/hashing.py", "common.storage", "No cycles are allowed in common."),
    ("common/storage.py", "common.hashing", "No cycles are allowed in common."),
    ("curation/recipe/recipe.py", "curation.pipeline", "No cycles are allowed in curation."),
    ("model/presets.py", "training.recipe", "model.presets -> training.recipe"),
    ("training/objective.py", "curation.recipe.recipe", "training.objective -> curation.recipe.recipe"),
    ("common/errors.py", "model.config", "common.errors -> model.config"),
    ("model/projector.py", "deepspeed", "model.projector -> deepspeed"),
    ("curation/filters/text.py", "ray", "curation.filters.text -> ray"),
]


def test_planted_imports_fail_it(project):
    """All at once, since each check of the whole project takes seconds."""
    for file, imported, _ in PLANTED:
        plant(project, file, f"import {imported}")
    result = lint(project)
    assert result.returncode == 1 and result.stdout.count("BROKEN") == 5, result.stdout
    for _, _, words in PLANTED:
        assert words in result.stdout
