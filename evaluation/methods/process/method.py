"""A method that a program draws, in an environment of its own: what it is asked, and what its pictures depend on."""

from __future__ import annotations

import abc
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydantic import Field

from common.settings import Section
from evaluation.methods.base import DrawingMethod
from evaluation.methods.process.program import Program
from evaluation.methods.sources import MethodSources

LIMITS = ("seconds_to_start", "seconds_a_picture")  # no picture depends on them


class ProgramSettings(Section):
    """Size, limits, and whatever else the program is told; subclasses add their own."""

    width: int = Field(1024, ge=8, description="pixels of the picture that it is asked for")
    height: int = Field(1024, ge=8)
    seconds_to_start: float = Field(1800, gt=0, description="until its first picture; then it is ended")
    seconds_a_picture: float = Field(600, gt=0)


class ProcessMethod(DrawingMethod):
    """Subclasses say which program it is."""

    Settings = ProgramSettings
    settings: ProgramSettings

    @classmethod
    def facts(cls, settings: ProgramSettings, sources: MethodSources) -> dict[str, Any]:
        told = super().facts(settings, sources)
        size = {"native_size": f"{settings.width} x {settings.height}"}
        return {key: value for key, value in told.items() if key not in ("width", "height", *LIMITS)} | size

    @abc.abstractmethod
    def command(self) -> list[str]:
        """What is started."""

    @abc.abstractmethod
    def folder(self) -> Path:
        """Where it is started."""

    def told(self) -> dict[str, Any]:
        """The program's own settings: all but those that every program is told."""
        return self.settings.model_dump(mode="json", exclude={"width", "height", *LIMITS})

    def describe(self) -> dict[str, Any]:
        size = {"width": self.settings.width, "height": self.settings.height}
        return super().describe() | {"settings": size, "told": self.told()}

    def load(self) -> None:
        """The program itself is started by the first picture: only its answer tells that its model is loaded."""
        self.photos = tempfile.TemporaryDirectory(prefix="photos-")
        limits = self.settings.seconds_to_start, self.settings.seconds_a_picture
        self.program = Program(self.command(), self.folder(), *limits)

    def prepare(self, photos: Sequence[np.ndarray]) -> list[str]:
        """The photos as files: PNG, upright, as every other method sees them."""
        folder = Path(tempfile.mkdtemp(dir=self.photos.name))
        files = [folder / f"{number}.png" for number in range(len(photos))]
        for photo, file in zip(photos, files, strict=True):
            Image.fromarray(photo).save(file)
        return [str(file) for file in files]

    def draw(self, face: list[str], prompt: str, seed: int) -> Image.Image:
        request = {
            "photos": face,
            "prompt": prompt,
            "seed": seed,
            "width": self.settings.width,
            "height": self.settings.height,
        }
        request |= {"device": self.sources.device_name, "dtype": self.sources.dtype_name, "settings": self.told()}
        request |= {"files": {role: str(found.path.absolute()) for role, found in self.found.items()}}
        return self.program.picture(request)

    def peak_bytes(self) -> int:
        """Of the program's process; of its GPU's memory nothing is known."""
        return 0 if self.sources.device_name.startswith("cuda") else self.program.peak_bytes()

    def close(self) -> None:
        if hasattr(self, "program"):
            self.program.close()
            self.photos.cleanup()
