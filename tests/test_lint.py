"""`make lint` sees the arrows of docs/architecture.md: a circle, or an arrow against them, fails it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.world import ROOT

ROOMS = ("common", "model", "curation", "training", "generation", "jobs")


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


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("common/hashing.py", "import common.storage", "no circle"),
        ("curation/recipe/recipe.py", "import curation.pipeline", "no circle"),
        ("model/presets.py", "import training.recipe", "only what is below"),
        ("training/objective.py", "import curation.recipe.recipe", "only what is below"),
        ("common/errors.py", "import model.config", "only what is below"),
        ("model/projector.py", "import deepspeed", "no DeepSpeed"),
        ("curation/filters/text.py", "import ray", "filters know no Ray"),
    ],
)
def test_a_planted_import_fails_it(project, file, line, contract):
    if contract == "no circle" and file == "common/hashing.py":
        plant(project, "common/storage.py", "import common.hashing")
    plant(project, file, line)
    result = lint(project)
    assert result.returncode == 1
    broken = [text for text in result.stdout.splitlines() if text.endswith("BROKEN")]
    assert any(contract in text for text in broken), result.stdout
