"""Draws what was asked by one method: each picture once, however often it is begun or killed.

OUT/pictures/METHOD/NAME/PROMPT/SEED-KEY.png: the key is a hash of everything that the picture depends on, so a file that is there
is never drawn again, and another setting draws another file. A picture appears whole, under its final name, or not at all; what
else is written (drawn.jsonl, method.json) is made of what is there.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from common.hashing import canonical_json, sha256_of_bytes, sha256_of_file
from common.progress import ProgressBar, say
from common.storage import Storage
from common.version import VERSION
from evaluation import method_facts
from evaluation.asked import Asked, Prompt
from evaluation.methods import measure
from evaluation.methods.base import DrawingMethod
from evaluation.methods.sources import MethodSources, Unavailable
from evaluation.sets import Drawn, Method, Reference
from generation.names import name_for_files
from generation.photos import read_photo
from generation.provenance import Provenance, save

LOG = "drawn.jsonl"


@dataclass(frozen=True)
class Picture:
    """A picture that is asked for, and where it is or will be."""

    reference: Reference
    prompt: Prompt
    seed: str
    key: str
    file: Path


def pictures_by(
    kind: type[DrawingMethod], sources: MethodSources, references: Sequence[Reference], asked: Asked, out: Path
) -> Method:
    """The pictures of a method, those that are missing drawn; with the reason in their place where it cannot draw.

    Raises:
        UserError: what a person named for it is wrong; a full disk and the like.
    """
    folder = out / kind.name
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
            _draw(method, missing, folder, failures)
    except Unavailable as error:
        if not any(picture.file.is_file() for picture in wanted):
            return _absent(kind, folder, facts, str(error))
        say("draw", f"{kind.title}: {_one_line(error)}", style="yellow")
        failures = {picture.key: str(error) for picture in missing} | failures
    finally:
        method.close()
        free_memory()
    _write_log(folder, wanted, failures)
    weights = {role: digest[:12] for role, digest in method.weights.items()}
    cost = measure.facts(folder, {picture.key for picture in wanted})
    _write_facts(folder, facts | ({"weights": weights} if weights else {}) | cost)
    return Method(kind.title, tuple(_drawn(picture, failures) for picture in wanted), (), folder)


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


def _draw(method: DrawingMethod, missing: Sequence[Picture], folder: Path, failures: dict[str, str]) -> None:
    """Draws and keeps them; the reasons of those that failed go into `failures`, by their key.

    Raises:
        Unavailable: the method's models cannot be loaded, or it broke.
    """
    peak = measure.PeakMemory(method.sources.device_name)
    try:
        method.load()
    except Exception as error:  # a file that is no model, too little memory, ...: any of them is the reason in its row
        raise Unavailable(f"cannot be loaded: {type(error).__name__}: {_one_line(error)}") from error
    of: Reference | None = None
    face: Any = None
    with ProgressBar("draw", len(missing), "pictures") as progress:
        for picture in missing:
            try:
                if picture.reference is not of:
                    of, face = picture.reference, _prepared(method, picture.reference)
                if isinstance(face, str):
                    raise ValueError(face)
                began = time.monotonic()
                image = method.draw(face, picture.prompt.words, int(picture.seed))
                seconds = time.monotonic() - began
                check_picture(image)
            except ValueError as error:  # the photo's or the picture's fault: a row with a reason, and on
                failures[picture.key] = _one_line(error)
            except (RuntimeError, MemoryError) as error:  # the method's: the next picture would say the same
                raise Unavailable(f"broke while it drew: {type(error).__name__}: {_one_line(error)}") from error
            else:
                held = method.peak_bytes()
                cost = measure.Measured(picture.key, seconds, peak.bytes() if held is None else held, peak.device)
                keep(method, picture, image, cost, folder)
            progress.advance(1, f"{len(failures)} failed" if failures else "")


def _prepared(method: DrawingMethod, reference: Reference) -> Any:
    """What the method makes of the reference; a string where it cannot: why, for all of its pictures."""
    try:
        return method.prepare([read_photo(reference.file)])
    except ValueError as error:
        return _one_line(error)


def keep(method: DrawingMethod, picture: Picture, image: Image.Image, measured: measure.Measured, folder: Path) -> None:
    """Its measure first, then the picture, which appears whole or not at all."""
    picture.file.parent.mkdir(parents=True, exist_ok=True)
    measure.append(folder, measured)
    told = method.facts(method.settings, method.sources)
    record = Provenance(
        software="facemakeup evaluation",
        version=VERSION,
        pipeline=method.title,
        base_model=str(told.get("base_model", method_facts.NOT_SAID)),
        weights=method.weights,
        seed=int(picture.seed),
    )
    save(image, picture.file, record, watermark=False)  # a mark would be scored with the picture


def check_picture(image: Image.Image) -> None:
    """Raises ValueError: the picture is of one colour, which no drawing is."""
    if all(low == high for low, high in Image.fromarray(np.asarray(image.convert("RGB"))).getextrema()):
        raise ValueError("the picture is of one colour: the drawing failed")


def free_memory() -> None:
    """What the method before let go of, for the next one."""
    gc.collect()
    torch = sys.modules.get("torch")  # not imported: nothing was loaded
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


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
    why = _one_line(why)
    say("draw", f"{kind.title}: {why}", style="yellow")
    _write_facts(folder, facts)
    return Method(kind.title, (), (), folder, absent=why)


def _one_line(error: object) -> str:
    return " ".join(str(error).split())
