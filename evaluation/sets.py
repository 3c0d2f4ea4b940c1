"""Which picture was drawn from which reference: folders in, pairs out; what is missing or cannot be read is counted.

REFERENCES/anna.jpg              a reference, called `anna`
REFERENCES/anna.txt              its caption, if a picture is drawn by it
REFERENCES/targets/anna.jpg      another photo of the same person, if there is one
PICTURES/anna.png                drawn from it; or, with several of each,
PICTURES/anna/in-the-snow.png    ... for a prompt, by its name
PICTURES/anna/in-the-snow/42.png ... for a prompt, with a seed
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from common.errors import UserError
from common.hashing import canonical_json, sha256_of_bytes, sha256_of_file

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
TARGETS = "targets"
ONE = ""  # the name of the prompt and the seed where there is one of each


class SetError(UserError, ValueError):
    """References or pictures that cannot be compared as they are; the message says what to change."""


@dataclass(frozen=True)
class Reference:
    """`words`: what is asked for where a picture's prompt has no words of its own."""

    name: str
    file: Path
    target: Path | None = None
    words: str = ""


@dataclass(frozen=True)
class Drawn:
    """A picture of a method; `file` is None where the method has none for this reference."""

    reference: Reference
    prompt: str = ONE
    seed: str = ONE
    file: Path | None = None
    words: str = ""  # the prompt itself; "" where it is not known


@dataclass(frozen=True)
class Method:
    """A method's pictures. `strange`: files that belong to no reference."""

    name: str
    drawn: tuple[Drawn, ...]
    strange: tuple[str, ...]

    @property
    def missing(self) -> int:
        return sum(item.file is None for item in self.drawn)


def open_references(folder: Path) -> list[Reference]:
    """The references of a folder, in the order of their names.

    Raises:
        SetError: there is none, or two have one name.
    """
    targets = dict(_named(folder / TARGETS))
    references: dict[str, Reference] = {}
    for name, file in _named(folder):
        if name in references:
            raise SetError(f"{file}: {references[name].file.name} has the same name: rename one of them")
        references[name] = Reference(name, file, targets.get(name), _caption(file.with_suffix(".txt")))
    if not references:
        raise SetError(f"{folder}: holds no references: photos {', '.join(sorted(SUFFIXES))}, named as in the pictures")
    if lost := sorted(set(targets) - set(references)):
        raise SetError(f"{folder / TARGETS}: {lost[0]} is the target of no reference: name it as its reference")
    return list(references.values())


def read_prompts(file: Path) -> dict[str, str]:
    """The words of each prompt by its name, from a YAML file `NAME: words`.

    Raises:
        SetError: it cannot be read as such.
    """
    try:
        told = yaml.safe_load(file.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise SetError(f"--prompts {file}: cannot be read: {str(error).splitlines()[0]}") from error
    if not isinstance(told, dict) or not all(isinstance(words, str) and words.strip() for words in told.values()):
        raise SetError(f"--prompts {file}: holds no prompts: write a line `NAME: words` for each")
    return {str(name): " ".join(words.split()) for name, words in told.items()}


def open_method(
    name: str, folder: Path, references: list[Reference], prompts: Mapping[str, str] | None = None
) -> Method:
    """A method's pictures, those of each reference in the order of prompts and seeds. `prompts`: words by name.

    Every reference is expected to have each prompt and seed that any of them has.

    Raises:
        SetError: no picture of the folder belongs to a reference.
    """
    if not folder.is_dir():
        raise SetError(f"{name}={folder}: no such folder of pictures")
    known = {reference.name: reference for reference in references}
    found: dict[str, list[Drawn]] = {name: [] for name in known}
    strange = []
    for file in _files(folder):
        first, *rest = file.relative_to(folder).with_suffix("").parts
        if first in known and len(rest) <= 2:
            prompt, seed = (*rest, ONE, ONE)[:2]
            words = (prompts or {}).get(prompt, "") if prompt else known[first].words
            found[first].append(Drawn(known[first], prompt, seed, file, words))
        else:
            strange.append(str(file.relative_to(folder)))
    if not any(found.values()):
        raise SetError(
            f"{name}={folder}: none of its {len(strange):,} pictures is named as a reference: call them "
            f"{references[0].name}.png, or {references[0].name}/PROMPT.png, or {references[0].name}/PROMPT/SEED.png"
        )
    expected = sorted({_order(item) for items in found.values() for item in items})
    drawn = []
    for reference in references:
        there = {_order(item): item for item in found[reference.name]}
        for prompt, seed in expected:
            words = (prompts or {}).get(prompt, "") if prompt else reference.words
            drawn.append(there.get((prompt, seed), Drawn(reference, prompt, seed, None, words)))
    return Method(name, tuple(drawn), tuple(strange))


def set_hash(references: list[Reference]) -> str:
    """12 hex digits: equal ones mean the same references and targets, byte for byte."""
    rows = [
        [item.name, sha256_of_file(item.file), sha256_of_file(item.target) if item.target else "", item.words]
        for item in references
    ]
    return sha256_of_bytes(canonical_json(rows).encode())[:12]


def _order(item: Drawn) -> tuple[str, str]:
    return item.prompt, item.seed


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith("."):
            yield path


def _caption(file: Path) -> str:
    return " ".join(file.read_text("utf-8").split()) if file.is_file() else ""


def _named(folder: Path) -> Iterator[tuple[str, Path]]:
    if folder.is_dir():
        yield from ((path.stem, path) for path in _files(folder) if path.parent == folder)
