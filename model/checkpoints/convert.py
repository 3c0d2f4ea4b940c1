"""A checkpoint from one layout to another: read, check, write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from model.checkpoints.layouts import CheckpointError
from model.checkpoints.reading import read
from model.checkpoints.state import Checkpoint
from model.checkpoints.writing import write


def convert(
    source: str | Path, target: str | Path, layout: str, *, shortcut: bool | None = None, **options: Any
) -> tuple[Checkpoint, list[str]]:
    """`read`, then `write` with its options: what was read, and what was lost or has to be known.

    Raises:
        CheckpointError: before anything is written.
    """
    checkpoint = read(source, shortcut)
    from_path, to_path = Path(source).expanduser().resolve(), Path(target).expanduser().resolve()
    if from_path == to_path:
        raise CheckpointError(f"{source} is both IN and OUT; write beside it, then move")
    if to_path in from_path.parents:
        raise CheckpointError(f"{source} is inside {target}, which would be replaced; write beside it, then move")
    return checkpoint, write(checkpoint, target, layout, **options)
