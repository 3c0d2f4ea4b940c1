"""Broken images go through decode and every filter: a smaller round of `python -m tests.fuzz`."""

from __future__ import annotations

import subprocess
import sys

from tests.fuzz import mutated, sound_images
from tests.world import ROOT


def test_300_broken_images_end_nothing():
    command = [sys.executable, "-m", "tests.fuzz", "--images", "300", "--seed", "1"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "300 images" in result.stdout and "'scored'" in result.stdout


def test_an_image_is_a_function_of_its_number():
    images = sound_images()[:12]
    assert mutated(images, 7, 0) == mutated(images, 7, 0)
    assert len({mutated(images, number, 0) for number in range(0, 600, 12)}) > 30
