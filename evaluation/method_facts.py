"""What a method is, as far as it says so: PICTURES/method.json, or else the record in its pictures, or their size.

{"base_model": "runwayml/stable-diffusion-v1-5", "native_size": "512 x 512", "scheduler": "DDIM", "steps": 50, "guidance": 7.5}

All keys are free. What nobody says is "not said": it is no difference that a table may be silent about.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from common.decode import ImageLimits, Undecodable, decode
from evaluation.sets import Method, SetError
from generation.provenance import ProvenanceError, read

NAME = "method.json"
ALWAYS = ("base_model", "native_size", "scheduler", "steps")  # asked of every method
NOT_SAID = "not said"
LIMITS = ImageLimits(min_side=1)


def facts_of(method: Method) -> dict[str, str]:
    """Raises SetError: its method.json cannot be read."""
    told = read_facts(method.folder) if method.folder else {}
    if not method.folder or all(key in told for key in ALWAYS):
        return told
    return _of_a_picture(next((item.file for item in method.drawn if item.file), None)) | told


def read_facts(folder: Path) -> dict[str, str]:
    """What method.json says; nothing where there is none.

    Raises:
        SetError: it is no JSON object.
    """
    file = folder / NAME
    if not file.is_file():
        return {}
    try:
        told = json.loads(file.read_bytes())
    except ValueError as error:
        raise SetError(f"{file}: is not JSON: {error}") from error
    if not isinstance(told, dict):
        raise SetError(f'{file}: is no JSON object: write what the method is, e.g. {{"steps": 50}}')
    return {str(key): _text(value) for key, value in told.items()}


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def differences(methods: Sequence[Method]) -> list[tuple[str, list[str]]]:
    """(what, of each method): what is always asked, and all else that any of them says."""
    told = [facts_of(method) for method in methods]
    more = sorted({key for facts in told for key in facts} - set(ALWAYS))
    return [(key.replace("_", " "), [facts.get(key, NOT_SAID) for facts in told]) for key in (*ALWAYS, *more)]


def _of_a_picture(file: Path | None) -> dict[str, str]:
    """What a picture shows of its method."""
    if file is None:
        return {}
    found = {}
    try:
        picture = decode(file.read_bytes(), LIMITS)
        found["native_size"] = f"{picture.width} x {picture.height} (of its pictures)"
        if record := read(file):
            found |= {"base_model": record.base_model, "pipeline": record.pipeline}
    except (OSError, Undecodable, ProvenanceError):
        return found  # the picture is scored, and then listed with its reason
    return found
