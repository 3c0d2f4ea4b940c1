"""Blind votes of people, exported by the page: which of two pictures is better, as a column with its interval.

A vote for a picture is 1, a tie one half, for the other picture 0; a method's figure is the mean over all votes that it stood
in. References are drawn again with all their votes together, the same draws for all methods. A vote counts only while both
pictures are, byte for byte, those that were shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from common.hashing import sha256_of_file
from common.progress import say
from evaluation.metrics.base import SHARE, Figure
from evaluation.sets import Method, SetError, units_of
from evaluation.statistics import compare, matrix_of
from evaluation.table import Column, cells_of

TITLE = "preferred"
WORTH = {"left": (1.0, 0.0), "right": (0.0, 1.0), "tie": (0.5, 0.5)}
Key = tuple[str, str, str, str]  # of a picture: method, reference, prompt, seed


class Side(BaseModel):
    """A picture that was shown. `sha256`: of its file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str
    sha256: str


class Vote(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    reference: str
    prompt: str
    seed: str
    left: Side
    right: Side
    won: Literal["left", "right", "tie"]


class VotesFile(BaseModel):
    """What the page exports. `voter`: chosen at random by the page, so that a file is not counted twice."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1]
    voter: str
    votes: list[Vote]


def open_votes(files: Sequence[str]) -> list[VotesFile]:
    """The votes of each file.

    Raises:
        SetError: a file that cannot be read, or stands there twice.
    """
    read = [_read(Path(file)) for file in files]
    if twice := [voter for voter, number in Counter(item.voter for item in read).items() if number > 1]:
        raise SetError(f"--votes: two files are of one voter ({twice[0]}): give the later of the two, it has all votes")
    return read


def require_compared(files: Sequence[VotesFile], compared: Collection[Key]) -> None:
    """Raises SetError: a vote is on a picture that is not among these (method, reference, prompt, seed)."""
    for vote in (vote for file in files for vote in file.votes):
        for side in (vote.left, vote.right):
            if _key(vote, side) not in compared:
                what = " ".join(filter(None, (vote.reference, vote.prompt, vote.seed)))
                raise SetError(
                    f"--votes: a vote is on {side.method}'s picture of {what}, which is not compared here: name the same "
                    "folders"
                )


def compared_of(methods: Iterable[Method]) -> set[Key]:
    return {(method.name, item.reference.name, item.prompt, item.seed) for method in methods for item in method.drawn}


def votes_column(files: Sequence[VotesFile], methods: Sequence[Method], seed: int = 0) -> Column:
    """The column of all votes; says how many do not count."""
    shown = {
        (method.name, item.reference.name, item.prompt, item.seed): item.file
        for method in methods
        for item in method.drawn
    }
    hashes: dict[Path, str] = {}
    rows, changed = [], 0
    for vote in (vote for item in files for vote in item.votes):
        if all(_same(shown.get(_key(vote, side)), side, hashes) for side in (vote.left, vote.right)):
            worths = zip((vote.left, vote.right), WORTH[vote.won], strict=True)
            rows += [(side.method, vote.reference, vote.prompt, worth) for side, worth in worths]
        else:
            changed += 1
    if changed:
        say("score", f"{changed:,} votes do not count: a picture has changed since, or is gone", style="yellow")
    says = f"share of {len(rows) // 2:,} blind votes by {len(files):,} people that a picture won, a tie half"
    if changed:
        says += f"; {changed:,} more do not count, since a picture has changed"
    frame = pd.DataFrame(rows, columns=["method", "reference", "prompt", "number"])
    return _column(Figure(TITLE, "number", says=says, bounds=SHARE), frame, methods, seed)


def _column(figure: Figure, votes: pd.DataFrame, methods: Sequence[Method], seed: int) -> Column:
    units = units_of(methods)
    votes = votes.assign(reference=votes["reference"].map(units))
    references = list(dict.fromkeys(units.values()))
    prompts = sorted({item.prompt for method in methods for item in method.drawn})
    by_method = {method.name: votes[votes["method"] == method.name] for method in methods}
    matrices = {name: matrix_of(own, "number", references, prompts) for name, own in by_method.items()}
    counts = {
        name: own.groupby(["reference", "prompt"])["number"].count().unstack("prompt")
        .reindex(index=references, columns=prompts).fillna(0).to_numpy(np.float64)
        for name, own in by_method.items()
    }  # fmt: skip
    stopped = {name: "nobody voted on a picture of it" for name, own in by_method.items() if own.empty}
    return Column(
        figure,
        cells_of(figure, compare(matrices, seed, weights=counts, bounds=figure.bounds), by_method, methods, stopped),
    )


def _key(vote: Vote, side: Side) -> Key:
    return side.method, vote.reference, vote.prompt, vote.seed


def _same(file: Path | None, side: Side, hashes: dict[Path, str]) -> bool:
    """Whether the picture that was voted on is still the one that is compared."""
    if file is None:
        return False
    if file not in hashes:
        hashes[file] = sha256_of_file(file)
    return hashes[file] == side.sha256


def _read(file: Path) -> VotesFile:
    try:
        return VotesFile.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        why = error.strerror if isinstance(error, OSError) else "export it from the page again"
        raise SetError(f"--votes {file}: is no file of votes: {why}") from error
