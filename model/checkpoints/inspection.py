"""What a checkpoint is, holds and lacks, as JSON types."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TypedDict

from common.hashing import sha256_of_bytes, sha256_of_file
from model.checkpoints.layouts import TOKENS, CheckpointError
from model.checkpoints.reading import read_unchecked


class PartReport(TypedDict):
    """One dictionary of tensors; `dtypes`: how many tensors of each."""

    tensors: int
    parameters: int
    bytes: int
    dtypes: dict[str, int]


class Report(TypedDict):
    """`shortcut` and the sizes are None where they are unknown; `lacks` is empty where it can be converted;
    `non_finite`: how many numbers of a tensor are NaN or infinite; `notes`: what was concluded while it was read."""

    path: str
    layout: str
    shortcut: bool | None
    identity_dim: int | None
    clip_dim: int | None
    cross_attention_dim: int | None
    tokens: int | None
    rank: int | None
    attentions: int | None
    controlnet: bool
    parts: dict[str, PartReport]
    non_finite: dict[str, int]
    lacks: list[str]
    notes: list[str]
    metadata: dict[str, str]
    sha256: str


def inspect_checkpoint(path: str | Path, shortcut: bool | None = None) -> Report:
    """What a checkpoint is, holds and lacks. `shortcut` overrides what the file says.

    Raises:
        CheckpointError: it is not a checkpoint of a known layout.
    """
    checkpoint = read_unchecked(path, shortcut)
    lacks = []
    dimensions = None
    try:
        dimensions = checkpoint.dimensions()
    except CheckpointError as error:
        lacks.append(str(error))
    if checkpoint.metadata.get("shortcut") not in ("true", "false"):
        lacks.append("shortcut: unknown; say --shortcut (v2) or --no-shortcut (v1) when converting")
    parts: dict[str, PartReport] = {
        name: {
            "tensors": len(tensors),
            "parameters": sum(value.numel() for value in tensors.values()),
            "bytes": sum(value.nbytes for value in tensors.values()),
            "dtypes": dict(Counter(str(value.dtype).removeprefix("torch.") for value in tensors.values())),
        }
        for name, tensors in checkpoint.parts.items()
    }
    return {
        "path": str(path),
        "layout": checkpoint.metadata["layout"],
        "shortcut": {"true": True, "false": False}.get(checkpoint.metadata.get("shortcut", "")),
        "identity_dim": dimensions and dimensions.identity,
        "clip_dim": dimensions and dimensions.clip,
        "cross_attention_dim": dimensions and dimensions.token,
        "tokens": dimensions and TOKENS,
        "rank": dimensions and dimensions.rank,
        "attentions": dimensions and len(dimensions.widths),
        "controlnet": checkpoint.controlnet is not None,
        "parts": parts,
        "non_finite": checkpoint.non_finite(),
        "lacks": lacks,
        "notes": checkpoint.notes,
        "metadata": {
            key: value for key, value in sorted(checkpoint.metadata.items()) if key not in ("layout", "shortcut")
        },
        "sha256": sha256_of_path(Path(path).expanduser()),
    }


def sha256_of_path(path: Path) -> str:
    """Of a file, its sha256; of a folder, that of the lines `sha256  name` of its files, sorted by name."""
    if path.is_file():
        return sha256_of_file(path)
    names = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    lines = "".join(f"{sha256_of_file(path / name)}  {name}\n" for name in names)
    return sha256_of_bytes(lines.encode())
