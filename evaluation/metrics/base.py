"""What a metric is: features of a picture, once, and from the features of a pair the numbers that stand in the table.

Features depend on the picture's bytes and on the metric's fingerprint alone, so they are kept by both and never made again.
A number that cannot be had has a reason, and counts as its figure says.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa

from common.hashing import canonical_json, sha256_of_bytes
from evaluation.metrics.found_faces import FoundFaces

if TYPE_CHECKING:
    import torch

Protocol = Literal["sound", "reconstructed"]
Features = Mapping[str, Any]  # one picture's row of `columns`
Bounds = tuple[float, float]  # what a number can be at all
COSINE: Bounds = (-1, 1)
SHARE: Bounds = (0, 1)
POSITIVE: Bounds = (0, math.inf)


class Unavailable(Exception):
    """A metric that cannot be had here: the reason stands in its cells."""


@dataclass(frozen=True)
class Figure:
    """A column of the table: the mean of `column` over pictures.

    `of_failures`: what a picture without a number counts as; None: it is left out, and how many were is said. Of a published
    script: `suffixes`: how the names of the files that it lists end (the case counts), others are left out; `stops`: why it
    ends with an error at a picture, "" where it does not, by the picture's row; `of_none`: its figure where no number is left.
    """

    title: str
    column: str
    protocol: Protocol = "sound"
    of_failures: float | None = None
    suffixes: tuple[str, ...] = ()
    stops: Callable[[Mapping[str, Any]], str] | None = None
    of_none: float | None = None
    higher_is_better: bool | None = True  # None: neither is
    says: str = ""
    bounds: Bounds = (-math.inf, math.inf)


def stops_at_errors(row: Mapping[str, Any]) -> str:
    """For `stops`: a script that opens every picture of its list ends where one is not there or is none."""
    return row["error"]


@dataclass(frozen=True)
class SetFigure:
    """A column of the table that is a distance between a method's pictures and the references, by a feature's vectors.

    `headline_at`: with fewer pictures the number is marked as not to be quoted; `scatter`: the distance whose halves give
    the interval, where `distance` itself would take too long; `suffixes`: see Figure.
    """

    title: str
    feature: str
    distance: Callable[[np.ndarray, np.ndarray], float]
    protocol: Protocol = "sound"
    higher_is_better: bool | None = False
    headline_at: int = 0
    scatter: Callable[[np.ndarray, np.ndarray], float] | None = None
    suffixes: tuple[str, ...] = ()
    says: str = ""
    bounds: Bounds = (-math.inf, math.inf)


@dataclass(frozen=True)
class Pair:
    """What a picture is compared with: its reference, another photo of the person, and the words that were asked for."""

    reference: Features
    drawn: Features
    target: Features | None = None
    prompt: str = ""


@dataclass(frozen=True)
class Sources:
    """Where models are looked for, and where they run. `weights`: a folder of pinned files; `models`: a folder or a name of
    each model; `device`: of torch, auto is a GPU where there is one. Detectors and recognisers run on the CPU."""

    weights: str | None = None
    models: Mapping[str, str] = field(default_factory=dict)
    device: str = "auto"

    @property
    def torch_device(self) -> torch.device:
        import torch

        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return torch.device(self.device)

    @cached_property
    def faces(self) -> FoundFaces:
        """What all metrics that look at faces share.

        Raises:
            WeightError: no face detector can be had.
        """
        return FoundFaces(self.weights)


@dataclass(frozen=True)
class NotMeasured:
    """A column of the table without a number, and why."""

    title: str
    protocol: Protocol
    why: str


AnyFigure = Figure | SetFigure | NotMeasured


class Metric(abc.ABC):
    """Making one checks its files by hash; models are loaded by the first picture.

    Raises:
        Unavailable: a file is not here.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    columns: ClassVar[tuple[pa.Field, ...]]  # of the features

    @abc.abstractmethod
    def describe(self) -> dict[str, Any]:
        """Everything that the features depend on besides the picture, as JSON types: settings, hashes of model files."""

    @property
    def fingerprint(self) -> str:
        described = {"metric": self.name, "version": self.version, **self.describe()}
        return sha256_of_bytes(canonical_json(described).encode())[:12]

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([pa.field("sha256", pa.string()), *self.columns])

    @abc.abstractmethod
    def features(self, rgb: np.ndarray) -> Features:
        """Of one upright picture, uint8 (h, w, 3)."""

    @abc.abstractmethod
    def scores(self, pair: Pair) -> Mapping[str, float | str | None]:
        """The numbers of a picture that was drawn from a reference, None where there is none; and words that explain them."""

    def unusable(self, reference: Features) -> str:
        """Why nothing can be compared with this reference, whatever the method; "" where it can."""
        return ""

    def remark(self, drawn: Features) -> str:
        """Why a picture that could be read has no number, to be listed; "" where it has."""
        return ""

    @abc.abstractmethod
    def figures(self) -> Sequence[AnyFigure]:
        """The columns of the table."""
