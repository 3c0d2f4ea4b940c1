"""Fixtures of the demo's tests: the tiny model and real photos."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.generation.demo.demo_world import group_file, portrait_files, tiny_model


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def portraits() -> dict[str, Path]:
    return portrait_files()


@pytest.fixture(scope="module")
def group() -> Path:
    return group_file()
