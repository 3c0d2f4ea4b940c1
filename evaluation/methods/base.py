"""What a method is: photos of a person, a prompt and a seed in, a picture out, or the reason why there is none.

Making one only looks for its files; `load` loads them. A picture depends on `describe`, the photos' bytes, the prompt and the
seed, and on nothing else, so that it is kept by all of them and never drawn again.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from common.settings import Section
from evaluation.methods.sources import Found, MethodSources, Needed


@dataclass(frozen=True)
class Twin:
    """A method's tiny random twin: its files, by role, in the authors' layout, and the settings that are its own."""

    parts: Mapping[str, Path]
    settings: Mapping[str, Any]


class DrawingMethod(abc.ABC):
    """A method of drawing. `defaults`: settings of a variant that are other than its `Settings` say.

    `name`: on the command line and of its folder; `title`: of its row; `version`: raised when its code draws otherwise.

    Raises:
        Unavailable: a file is not here, with what to fetch.
        UserError: a setting or a place that a person named is wrong.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    version: ClassVar[int] = 1
    needs: ClassVar[tuple[Needed, ...]] = ()
    Settings: ClassVar[type[Section]]
    defaults: ClassVar[Mapping[str, Any]] = {}
    competes: ClassVar[bool] = True  # for the best of the table

    def __init__(self, sources: MethodSources):
        self.sources = sources
        self.settings = self.settings_from(sources)
        self.found: dict[str, Found] = sources.find(self.name, self.needs)

    @classmethod
    def settings_from(cls, sources: MethodSources) -> Section:
        """Its settings, as published but for what a person changed.

        Raises:
            UserError: a setting that it has not, or a value that cannot be.
        """
        return sources.settings(cls.name, cls.Settings, cls.defaults)

    @classmethod
    def facts(cls, settings: Any, sources: MethodSources) -> dict[str, Any]:
        """What method.json says of it, whether its files are here or not. Subclasses add base model, native size, scheduler."""
        licences = {part.role: part.licence for part in cls.needs}
        return {**settings.model_dump(), **({"licences": licences} if licences else {})}

    def describe(self) -> dict[str, Any]:
        """Everything that a picture depends on besides photos, prompt and seed, as JSON types."""
        return {
            "method": self.name,
            "version": self.version,
            "settings": self.settings.model_dump(mode="json"),
            "weights": self.weights,
            "dtype": self.sources.dtype_name,
        }

    @property
    def weights(self) -> dict[str, str]:
        """sha256 of each file or folder that it draws with, by role."""
        return {role: found.sha256 for role, found in sorted(self.found.items())}

    @classmethod
    def roles(cls) -> tuple[str, ...]:
        """What of it can be named by --part METHOD.ROLE=PLACE."""
        return tuple(part.role for part in cls.needs)

    @classmethod
    def base_name(cls, sources: MethodSources, part: Needed) -> str:
        """What the base model is called: as published, or the folder that a person named."""
        named = sources.place(cls.name, part.role)
        return Path(named).name if named else part.hub

    @classmethod
    def twin(cls, folder: Path) -> Twin | None:
        """Writes its tiny random twin into `folder`; None where it has none."""
        return None

    @abc.abstractmethod
    def load(self) -> None:
        """Loads its models, once, onto the device of `sources`."""

    @abc.abstractmethod
    def prepare(self, photos: Sequence[np.ndarray]) -> Any:
        """What it makes of a reference before a prompt is known. `photos`: uint8 RGB (h, w, 3), one or several of a person.

        Raises:
            ValueError: these photos cannot be drawn from, and why.
        """

    @abc.abstractmethod
    def draw(self, face: Any, prompt: str, seed: int) -> Image.Image:
        """A picture. `face`: of `prepare`.

        Raises:
            ValueError: there is none, and why.
        """

    def peak_bytes(self) -> int | None:
        """The most memory it held, where it draws in another process, 0 if that cannot be known; None: it draws in this one."""
        return None

    @abc.abstractmethod
    def close(self) -> None:
        """Lets go of the models, so that the next method has the memory."""
