"""What a folder of references says of itself, in manifest.json: where each photo is from, its hash, whose it is, what was
left out and why, and whether any of it was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from common.errors import UserError
from common.hashing import sha256_of_file
from common.storage import json_bytes

NAME = "manifest.json"


class Row(BaseModel):
    """A reference. `file`, `target`: in the folder; `id`, `url`: in its source; `person`: who it shows; "": not said."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    file: str
    sha256: str
    words: str = ""
    person: str = ""
    id: str = ""
    url: str = ""
    licence: str = ""
    target: str = ""
    target_sha256: str = ""


class LeftOut(BaseModel):
    """A photo that is no reference. `name`: its id or URL in the source."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    reason: str


class Leakage(BaseModel):
    """What was asked of a training set. `against`: its shards, "" where nothing was asked; `samples`: how many it has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    against: str = ""
    samples: int = 0
    by_id: int = 0
    by_bytes: int = 0
    by_likeness: int = 0

    def sentence(self) -> str:
        if not self.against:
            return "leakage: not checked: whether a model was trained on these photos is not known"
        return (
            f"leakage: checked against the {self.samples:,} samples of {self.against}: {self.by_id:,} photos left out by "
            f"id, {self.by_bytes:,} by their bytes, {self.by_likeness:,} as near duplicates; none remains"
        )


class Manifest(BaseModel):
    """`kind`, `source`, `count`: how it was built; `complete`: false while it is."""

    model_config = ConfigDict(extra="forbid")

    format: Literal[1] = 1
    kind: str
    source: str
    count: int | None = None
    complete: bool = False
    leakage: Leakage = Leakage()
    references: list[Row] = []
    left_out: list[LeftOut] = []

    def facts(self, folder: Path) -> list[str]:
        """What stands in the head of a table of these references."""
        left = f"; {len(self.left_out):,} photos left out, each with its reason in {NAME}" if self.left_out else ""
        asked = "; no site was asked for opt-outs" if self.kind == "urls" else ""
        lines = [f"references of {self.kind} {self.source}{left}{asked}", self.leakage.sentence()]
        if changed := self.changed(folder):
            lines.append(f"CHANGED since the set was built: {len(changed):,} files, e.g. {changed[0]}")
        return lines

    def write(self, folder: Path) -> None:
        partial = folder / f".{NAME}.part"
        partial.write_bytes(json_bytes(self.model_dump()))
        partial.replace(folder / NAME)

    def changed(self, folder: Path) -> list[str]:
        """Files that are no longer what they were when the set was built."""
        told = [(row.file, row.sha256) for row in self.references]
        told += [(row.target, row.target_sha256) for row in self.references if row.target]
        return [name for name, known in told if not (folder / name).is_file() or sha256_of_file(folder / name) != known]


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a folder of references; None where it has none.

    Raises:
        UserError: it cannot be read.
    """
    file = folder / NAME
    try:
        return Manifest.model_validate_json(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValidationError) as error:
        raise UserError(f"{file}: is no manifest of references: build them again, or take it away") from error
