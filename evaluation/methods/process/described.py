"""A row of any program by a file that describes it: METHODS="theirs=theirs.yaml"."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pydantic import Field

from common.errors import UserError
from common.settings import read_yaml, validated
from evaluation.methods.process.method import ProcessMethod, ProgramSettings
from evaluation.methods.sources import Found, MethodSources
from generation.names import name_for_files

SUFFIXES = (".yaml", ".yml")


class Described(ProgramSettings):
    """The file. Places are relative to its folder, where the program is started, too."""

    program: str = Field(description="a Python file")
    python: str | None = Field(None, description="the Python of the program's environment; None: this project's")
    title: str | None = Field(None, description="of the row; None: its name")
    files: dict[str, str] = Field({}, description="what it draws with, by role: hashed, and their places told to it")
    licences: dict[str, str] = Field({}, description="by role")
    facts: dict[str, str | int | float | bool] = Field(
        {}, description="base_model, scheduler, ...: for the table's head"
    )
    settings: dict[str, Any] = Field({}, description="told to it as they are; in the table's head, too")


def method_of(name: str, file: Path) -> type[ProcessMethod]:
    """The method that a file describes.

    Raises:
        UserError: it cannot be read, or has a field that does not belong there. Made, the method raises it, too, where
            something that the file names is not here.
    """
    described = validated(Described, read_yaml(file), str(file))
    home = file.expanduser().absolute().parent

    class DescribedMethod(ProcessMethod):
        defaults = described.model_dump(include=set(ProgramSettings.model_fields))
        # not resolved: the Python of an environment is a link, and is of it by its place
        python = str(home / Path(described.python).expanduser()) if described.python else sys.executable

        def __init__(self, sources: MethodSources):
            self.sources, self.settings = sources, self.settings_from(sources)
            places = {role: home / Path(place).expanduser() for role, place in described.files.items()}
            places["program"] = home / described.program
            if not Path(self.python).exists():
                raise UserError(f"{file}: not here: the Python of its environment, {self.python}")
            if absent := [f"{role} ({place})" for role, place in places.items() if not place.exists()]:
                raise UserError(f"{file}: not here: {', '.join(absent)}")
            self.found = {role: Found(place) for role, place in places.items()}

        @classmethod
        def facts(cls, settings: ProgramSettings, sources: MethodSources) -> dict[str, Any]:
            told = {"native_size": f"{settings.width} x {settings.height}"} | described.settings | described.facts
            return told | ({"licences": described.licences} if described.licences else {})

        def command(self) -> list[str]:
            return [self.python, str(self.found["program"].path)]

        def folder(self) -> Path:
            return home

        def told(self) -> dict[str, Any]:
            return described.settings

    DescribedMethod.name, DescribedMethod.title = name_for_files(name), described.title or name
    return DescribedMethod
