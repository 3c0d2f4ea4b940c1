"""A method that draws without a model: quick, and it counts its drawings in a file, by which a killed run is judged."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

from common.settings import Section
from evaluation.asked import Asked, Prompt
from evaluation.methods.base import DrawingMethod
from evaluation.methods.sources import MethodSources, Needed
from evaluation.sets import Reference

ASKED = Asked((Prompt("snow", "a person in the snow"), Prompt("by/sea", "a person by the sea")), ("42", "43"))


class MadeSettings(Section):
    steps: int = 5
    breaks_at: str = ""  # the words of a prompt


class Made(DrawingMethod):
    name = "made"
    title = "Made"
    Settings = MadeSettings
    needs = (Needed("adapter", "MIT", "someone/adapter", "adapter.bin"),)

    @classmethod
    def facts(cls, settings, sources):
        return {**super().facts(settings, sources), "base_model": "none", "native_size": "16 x 16"}

    def load(self):
        if self.found["adapter"].path.read_bytes() == b"damaged":
            raise RuntimeError("a file\nthat is no model")

    def prepare(self, photos):
        if photos[0].mean() < 10:
            raise ValueError("no face was found")
        return photos[0]

    def draw(self, face, prompt, seed):
        if prompt == self.settings.breaks_at:
            raise RuntimeError("out of memory")
        with open(os.environ["COUNTED"], "a") as file:
            file.write(f"{prompt} {seed} {face.mean():.0f}\n")
        return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (16, 16, 3), np.uint8))

    def close(self):
        pass


def make(folder: Path, **changes) -> tuple[list[Reference], MethodSources]:
    """Two references with a face, one without, and the method's file."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, shade in {"anna": 200, "ben": 100, "dark": 0}.items():
        photo = np.full((64, 64, 3), shade, np.uint8)
        photo[:8] = shade // 2
        Image.fromarray(photo).save(folder / f"{name}.png")
    if not (folder / "adapter.bin").exists():
        (folder / "adapter.bin").write_bytes(b"weights")
    references = [Reference(name, folder / f"{name}.png") for name in ("anna", "ben", "dark")]
    return references, MethodSources(
        str(folder), changes=[f"made.{key}={value}" for key, value in changes.items()], device="cpu", dtype="fp32"
    )
