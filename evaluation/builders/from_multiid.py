"""References of MultiID-Bench (WithAnyone, ICLR 2026): a photo of a person, and another one, the target of copy-paste.

Either as its authors' README lays it out, ID/ref_1.jpg, ID/ori.jpg (the target) and ID/meta.json with `prompt`, or the
parquet files of its page on Hugging Face (`ID`, `GT`, `input_images`, `prompt`). Written from those descriptions: the data
set itself was not at hand. Only entries with one person are taken, since a picture of several has no one reference.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from common.failures.mendable import first_line
from evaluation.builders.candidates import Candidate, Candidates
from evaluation.manifest import LeftOut
from evaluation.sets import SetError

LICENCE = "multiid-2m"  # as the data set's page calls it
COLUMNS = ["ID", "GT", "input_images", "prompt"]


def from_multiid(place: Path) -> Candidates:
    """The entries in the order of their ids.

    Raises:
        SetError: neither of the two layouts.
    """
    if not place.exists():
        raise SetError(f"{place}: no such folder")
    tables = [place] if place.suffix == ".parquet" else sorted(place.rglob("*.parquet"))
    entries = sorted(file.parent for file in place.glob("*/meta.json"))
    if not tables and not entries:
        raise SetError(
            f"{place}: is no MultiID-Bench: neither ID/meta.json, ID/ref_1.jpg, ID/ori.jpg nor parquet files"
        )
    for table in tables:
        yield from _of_table(table)
    for entry in [] if tables else sorted(item for item in place.iterdir() if item.is_dir() and item.name[0] != "."):
        yield _of_folder(entry)


def _of_folder(entry: Path) -> Candidate | LeftOut:
    try:
        prompt = json.loads((entry / "meta.json").read_bytes())["prompt"]
        photos = [file.read_bytes() for file in sorted(entry.glob("ref_*.jpg"))]
        return _entry(entry.name, str(prompt), photos, (entry / "ori.jpg").read_bytes())
    except OSError as error:
        return LeftOut(name=entry.name, reason=f"{Path(error.filename or entry).name} cannot be read: {error.strerror}")
    except (ValueError, KeyError, TypeError) as error:
        return LeftOut(name=entry.name, reason=f"meta.json is no JSON with a `prompt`: {first_line(error)}")


def _of_table(file: Path) -> Candidates:
    try:
        batches = pq.ParquetFile(file).iter_batches(16, columns=COLUMNS)
        for batch in batches:
            for row in batch.to_pylist():
                photos = [_bytes(item) for item in row["input_images"] or ()]
                yield _entry(str(row["ID"]), row["prompt"] or "", [item for item in photos if item], _bytes(row["GT"]))
    except (OSError, pa.ArrowException, KeyError, TypeError) as error:
        raise SetError(f"{file}: is no table of MultiID-Bench, with {', '.join(COLUMNS)}: {error}") from error


def _entry(key: str, prompt: str, photos: list[bytes], target: bytes) -> Candidate | LeftOut:
    if len(photos) != 1:
        return LeftOut(name=key, reason=f"{len(photos)} people: only entries with one are taken")
    return Candidate(key, photos[0], " ".join(prompt.split()), id=key, licence=LICENCE, target=target or None)


def _bytes(image: Any) -> bytes:
    """Of a cell as `datasets` stores an image: {bytes, path}."""
    return (image or {}).get("bytes") or b""
