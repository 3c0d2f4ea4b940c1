"""Draws what was asked by one method: each picture once, however often it is begun or killed.

OUT/pictures/METHOD/NAME/PROMPT/SEED-KEY.png: the key is a hash of everything that the picture depends on, so a file that is there
is never drawn again, and another setting draws another file. A picture appears whole, under its final name, or not at all; what
else is written (drawn.jsonl, method.json) is made of what is there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.hashing import canonical_json, sha256_of_bytes, sha256_of_file
from common.local_files import new_file
from common.progress import ProgressBar, say
from common.storage import Storage
from evaluation import method_facts
from evaluation.asked import Asked, Prompt
from evaluation.methods import measure
from evaluation.methods.base import DrawingMethod
from evaluation.methods.drawer import Drawer, Outcome, Wanted, free_memory, one_line
from evaluation.methods.sources import MethodSources, Unavailable
from evaluation.sets import Drawn, Method, Reference
from generation.names import name_for_files

if TYPE_CHECKING:  # Ray takes a second to import: not where it is not used
    from evaluation.methods.on_ray import Crew

LOG = "drawn.jsonl"


@dataclass(frozen=True)
class Picture:
    """A picture that is asked for, and where it is or will be."""

    reference: Reference
    prompt: Prompt
    seed: str
    key: str
    file: Path


@dataclass(frozen=True)
class Hands:
    """Who draws, and what is done besides. `crew`: a Ray's actors; None: this process. `kept`: told of each file that was kept.
    `price`: dollars an hour of all that draws; 0: nobody asked."""

    crew: Crew | None = None
    kept: Callable[[Path], None] = lambda file: None
    price: float = 0.0

    def dollars(self, begun: float, done: int, of: int) -> str:
        """What the drawing has cost since, and what all of it will."""
        if not self.price:
            return ""
        spent = self.price * (time.monotonic() - begun) / 3600
        return f"{spent:.2f} dollars" if done == of else f"{spent:.2f} of {spent * of / done:.2f} dollars"


HERE = Hands()


def pictures_by(
    kind: type[DrawingMethod], sources: MethodSources, references: Sequence[Reference], asked: Asked, out: Path,
    hands: Hands = HERE,
) -> Method:  # fmt: skip
    """The pictures of a method, those that are missing drawn; with the reason in their place where it cannot draw.

    Raises:
        UserError: what a person named for it is wrong; a full disk and the like.
    """
    folder = out / kind.name
    sources = hands.crew.sources(sources) if hands.crew else sources
    facts = kind.facts(kind.settings_from(sources), sources)
    try:
        method = kind(sources)
    except Unavailable as error:
        return _absent(kind, folder, facts, str(error))
    wanted = list(_wanted(method, references, asked, folder))
    missing = [picture for picture in wanted if not picture.file.is_file()]
    there = len(wanted) - len(missing)
    say("draw", f"{kind.title}: {len(wanted):,} pictures asked for, {there:,} of them there")
    failures: dict[str, str] = {}
    try:
        if missing:
            _draw(method, missing, folder, failures, hands)
    except Unavailable as error:
        if not any(picture.file.is_file() for picture in wanted):
            return _absent(kind, folder, facts, str(error))
        say("draw", f"{kind.title}: {one_line(error)}", style="yellow")
        failures = {picture.key: str(error) for picture in missing} | failures
    finally:
        method.close()
        free_memory()
    _write_log(folder, wanted, failures)
    weights = {role: digest[:12] for role, digest in method.weights.items()}
    cost = measure.facts(folder, {picture.key for picture in wanted})
    _write_facts(folder, facts | ({"weights": weights} if weights else {}) | cost)
    return Method(
        kind.title, tuple(_drawn(picture, failures) for picture in wanted), (), folder, competes=kind.competes
    )


def _wanted(method: DrawingMethod, references: Sequence[Reference], asked: Asked, folder: Path) -> Iterator[Picture]:
    described = method.describe()
    for reference in references:
        photo = sha256_of_file(reference.file)
        for prompt in asked.prompts:
            for seed in asked.seeds:
                depends = {**described, "photos": [photo], "prompt": prompt.words, "seed": seed}
                key = sha256_of_bytes(canonical_json(depends).encode())[:16]
                place = folder / reference.name / name_for_files(prompt.name) / f"{seed}-{key}.png"
                yield Picture(reference, prompt, seed, key, place)


def _draw(
    method: DrawingMethod, missing: Sequence[Picture], folder: Path, failures: dict[str, str], hands: Hands
) -> None:
    """Draws and keeps them; the reasons of those that failed go into `failures`, by their key.

    Raises:
        Unavailable: the method's models cannot be loaded, or it broke.
    """
    by_key = {picture.key: picture for picture in missing}
    begun = time.monotonic()
    with ProgressBar("draw", len(missing), "pictures") as progress:
        for number, outcome in enumerate(_outcomes(method, missing, hands), 1):
            if outcome.cost is not None:
                keep(by_key[outcome.key], outcome.png, outcome.cost, folder)
                hands.kept(by_key[outcome.key].file)
            else:
                failures[outcome.key] = outcome.failure
            notes = [f"{len(failures)} failed" if failures else "", hands.dollars(begun, number, len(missing))]
            progress.advance(1, ", ".join(filter(None, notes)))
    if dollars := hands.dollars(begun, len(missing), len(missing)):
        say("draw", f"{method.title}: {dollars}")


def _outcomes(method: DrawingMethod, missing: Sequence[Picture], hands: Hands) -> Iterator[Outcome]:
    """By a group of actors, or in this process; a photo is read when its turn comes."""
    of_each = (
        (reference.file.read_bytes(), [Wanted(item.key, item.prompt.words, int(item.seed)) for item in pictures])
        for reference, pictures in groupby(missing, lambda picture: picture.reference)
    )
    if hands.crew is not None:
        from evaluation.methods.on_ray import drawn_on_ray

        yield from drawn_on_ray(method, of_each, hands.crew)
        return
    drawer = Drawer(method)
    for photo, wanted in of_each:
        yield from drawer.draw(photo, wanted)


def keep(picture: Picture, png: bytes, cost: measure.Measured, folder: Path) -> None:
    """Its measure first, then the picture, which appears whole or not at all."""
    picture.file.parent.mkdir(parents=True, exist_ok=True)
    measure.append(folder, cost)
    save(picture.file, png)


def save(file: Path, png: bytes) -> None:
    with new_file(file) as stream:
        stream.write(png)


def _drawn(picture: Picture, failures: dict[str, str]) -> Drawn:
    there = picture.file.is_file()
    return Drawn(
        picture.reference, picture.prompt.name, picture.seed, picture.file if there else None, picture.prompt.words,
        "" if there else failures.get(picture.key, "not drawn"),
    )  # fmt: skip


def _write_log(folder: Path, wanted: Sequence[Picture], failures: dict[str, str]) -> None:
    lines = []
    for picture in wanted:
        item = _drawn(picture, failures)
        row = {"name": picture.reference.name, "prompt": picture.prompt.name, "words": picture.prompt.words}
        row |= {"seed": picture.seed, "key": picture.key}
        if item.file:
            row |= {"status": "drawn", "file": item.file.relative_to(folder).as_posix()}
        else:
            row |= {"status": "failed", "reason": item.failure}
        lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    Storage(folder).write_bytes(LOG, "".join(lines).encode(errors="backslashreplace"))


def _write_facts(folder: Path, facts: dict[str, Any]) -> None:
    Storage(folder).write_json(method_facts.NAME, facts)


def _absent(kind: type[DrawingMethod], folder: Path, facts: dict[str, Any], why: str) -> Method:
    """A row without a picture: its reason, and what is known of it all the same."""
    why = one_line(why)
    say("draw", f"{kind.title}: {why}", style="yellow")
    _write_facts(folder, facts)
    return Method(kind.title, (), (), folder, absent=why)
