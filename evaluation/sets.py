"""Which picture was drawn from which reference: folders in, pairs out; what is missing or cannot be read is counted.

REFERENCES/anna.jpg              a reference, called `anna`
REFERENCES/anna.txt              its caption, if a picture is drawn by it
REFERENCES/targets/anna.jpg      another photo of the same person, if there is one
REFERENCES/manifest.json         what `python -m evaluation references` wrote of them, if it did
PICTURES/anna.png                drawn from it; or, with several of each,
PICTURES/anna/in-the-snow.png    ... for a prompt, by its name
PICTURES/anna/in-the-snow/42.png ... for a prompt, with a seed

A folder that jobs/generate.py or jobs/evaluate.py drew is read by its drawn.jsonl, which knows every prompt and why a picture is
missing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError
from common.hashing import canonical_json, sha256_of_bytes, sha256_of_file
from evaluation.manifest import read_manifest

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
BESIDE = {".txt", ".json", ".jsonl", ".md", ".html", ".csv", ".yaml", ".yml"}  # what may lie beside photos
TARGETS = "targets"
ONE = ""  # the name of the prompt and the seed where there is one of each


class SetError(UserError, ValueError):
    """References or pictures that cannot be compared as they are; the message says what to change."""


@dataclass(frozen=True)
class Reference:
    """`words`: what is asked for where a picture's prompt has no words of its own; `person`: who it shows, "": not said;
    `same_as`: the first reference with the same bytes, "": it is the first."""

    name: str
    file: Path
    target: Path | None = None
    words: str = ""
    person: str = ""
    same_as: str = ""

    @property
    def unit(self) -> str:
        """What counts once: a photo that stands there twice tells nothing more."""
        return self.same_as or self.name


@dataclass(frozen=True)
class Drawn:
    """A picture of a method; `file` is None where the method has none for this reference."""

    reference: Reference
    prompt: str = ONE
    seed: str = ONE
    file: Path | None = None
    words: str = ""  # the prompt itself; "" where it is not known
    failure: str = ""  # why there is no picture


@dataclass(frozen=True)
class Method:
    """A method's pictures. `strange`: files that belong to no reference; `folder`: where a method of its own put them;
    `absent`: why it could not draw at all, and so has no number anywhere; `competes`: false of what stands beside the methods as a
    measure of them: copies, other people, random twins."""

    name: str
    drawn: tuple[Drawn, ...]
    strange: tuple[str, ...]
    folder: Path | None = None
    absent: str = ""
    competes: bool = True

    @property
    def missing(self) -> int:
        return sum(item.file is None for item in self.drawn)


def open_references(folder: Path) -> list[Reference]:
    """The references of a folder, in the order of their names.

    Raises:
        SetError: there is no such folder, none in it, two have one name, or a caption cannot be read.
    """
    if not folder.is_dir():
        raise SetError(f"{folder}: no such folder of references")
    targets = dict(_named(folder / TARGETS))
    manifest = read_manifest(folder)
    if manifest and not manifest.complete:
        raise SetError(f"{folder}: these references are not finished: run the same `references` command again")
    people = {row.name: row.person for row in manifest.references} if manifest else {}
    references: dict[str, Reference] = {}
    first: dict[str, str] = {}  # by the bytes
    for name, file in _named(folder):
        if name in references:
            raise SetError(f"{file}: {references[name].file.name} has the same name: rename one of them")
        same = first.setdefault(sha256_of_file(file), name)
        references[name] = Reference(
            name, file, targets.get(name), _caption(file.with_suffix(".txt")), people.get(name, ""),
            "" if same == name else same,
        )  # fmt: skip
    if not references:
        raise SetError(f"{folder}: holds no references: photos {', '.join(sorted(SUFFIXES))}, named as in the pictures")
    if lost := sorted(set(targets) - set(references)):
        raise SetError(f"{folder / TARGETS}: {lost[0]} is the target of no reference: name it as its reference")
    return list(references.values())


def open_method(
    name: str, folder: Path, references: list[Reference], prompts: Mapping[str, str] | None = None
) -> Method:
    """A method's pictures, those of each reference in the order of prompts and seeds. `prompts`: words by name.

    Every reference is expected to have each prompt and seed that any of them has.

    Raises:
        SetError: no picture of the folder belongs to a reference.
    """
    if not folder.is_dir():
        raise SetError(f"{folder}: no such folder of pictures")
    known = {reference.name: reference for reference in references}
    found: dict[str, list[Drawn]] = {name: [] for name in known}
    strange = []
    logs = sorted(folder.glob("drawn*.jsonl"))
    for log in logs:
        strange += _read_log(log, known, found)
    for file in () if logs else _files(folder):
        first, *rest = file.relative_to(folder).with_suffix("").parts
        if first in known and len(rest) <= 2:
            prompt, seed = (*rest, ONE, ONE)[:2]
            words = (prompts or {}).get(prompt, "") if prompt else known[first].words
            if twin := next((item.file for item in found[first] if (item.prompt, item.seed) == (prompt, seed)), None):
                raise SetError(f"{file}: {twin.name} is the same picture's name: take one of them away")
            found[first].append(Drawn(known[first], prompt, seed, file, words))
        else:
            strange.append(str(file.relative_to(folder)))
    strange += [str(file.relative_to(folder)) for file in other_files(folder)]
    if not any(item.file for items in found.values() for item in items):
        raise SetError(
            f"{folder}: none of its {len(strange):,} pictures is named as a reference: call them "
            f"{references[0].name}.png, or {references[0].name}/PROMPT.png, or {references[0].name}/PROMPT/SEED.png"
        )
    failed = {name: item.failure for name, items in found.items() for item in items if item.failure}
    expected = sorted({_order(item) for items in found.values() for item in items if item.file})
    drawn = []
    for reference in references:
        there = {_order(item): item for item in found[reference.name] if item.file}
        for prompt, seed in expected:
            words = (prompts or {}).get(prompt, "") if prompt else reference.words
            gone = Drawn(reference, prompt, seed, None, words or prompt, failed.get(reference.name, "not drawn"))
            drawn.append(there.get((prompt, seed), gone))
    return Method(name, tuple(drawn), tuple(strange), folder)


def units_of(methods: Sequence[Method]) -> dict[str, str]:
    """What counts once, by the names of the references."""
    return {item.reference.name: item.reference.unit for method in methods for item in method.drawn}


def set_hash(references: Sequence[Reference]) -> str:
    """12 hex digits: equal ones mean the same references and targets, byte for byte."""
    rows = [
        [item.name, sha256_of_file(item.file), sha256_of_file(item.target) if item.target else "", item.words]
        for item in references
    ]
    return sha256_of_bytes(canonical_json(rows).encode())[:12]


def _order(item: Drawn) -> tuple[str, str]:
    return item.prompt, item.seed


def photos_in(folder: Path) -> list[Path]:
    """All pictures of a folder that can be read here, whatever they are for."""
    return list(_files(folder))


def other_files(folder: Path) -> list[Path]:
    """What may be pictures, of formats that are not read here."""
    seen = (path for path in sorted(folder.rglob("*")) if path.suffix.lower() not in SUFFIXES | BESIDE)
    return [path for path in seen if path.is_file() and not _hidden(path, folder)]


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES and path.is_file() and not _hidden(path, folder):
            yield path


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _read_log(log: Path, known: Mapping[str, Reference], found: dict[str, list[Drawn]]) -> list[str]:
    """Adds the pictures of a drawn.jsonl; returns those of no reference."""
    strange = []
    try:
        rows = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
        for row in rows:
            name, file = row["name"], log.parent / row["file"] if "file" in row else None
            if name not in known:
                strange.append(str(row.get("file", name)))
            elif row["status"] == "failed" or file is None:
                found[name].append(Drawn(known[name], row.get("prompt", ONE), failure=row["reason"]))
            elif "key" in row:  # of jobs/evaluate.py, which files prompts under their names
                found[name].append(Drawn(known[name], row["prompt"], row["seed"], file, row["words"]))
            else:
                seed = file.stem.rpartition("_")[2]
                found[name].append(Drawn(known[name], row["prompt"], seed, file, row["prompt"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SetError(
            f"{log}: is no log of jobs/generate.py or jobs/evaluate.py ({error!r}): take it away, or draw again"
        ) from error
    return strange


def _caption(file: Path) -> str:
    try:
        return " ".join(file.read_text("utf-8").split()) if file.is_file() else ""
    except UnicodeDecodeError as error:
        raise SetError(f"{file}: is no text in UTF-8: write the caption anew, or take it away") from error


def _named(folder: Path) -> Iterator[tuple[str, Path]]:
    if folder.is_dir():
        yield from ((path.stem, path) for path in _files(folder) if path.parent == folder)
