"""What a filter is: one class in one file, from which all the rest of the curation learns of it.

A filter *scores* an image, once: it writes evidence, raw and down to a low floor, so that any threshold above the floor
can be tried later without a model. Its `verdict` is a pure, vectorised function of evidence and thresholds. A filter
never deletes anything, and knows nothing of Ray, of other filters' verdicts, or of thresholds while it scores.

To add one: a class here beside the others, and its name in `registry.py`. Recipe, scoring, cut, ledger, report,
calibration and ID.json take everything from the class.
"""

from __future__ import annotations

import abc
import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import AfterValidator, Field

from common.decode import DECODE_VERSION, ImageLimits, Picture
from common.decode.limits import CHILD_CPU_SECONDS, CHILD_MEMORY
from common.errors import UserError
from common.hashing import canonical_json, sha256_of_bytes
from common.pinned_files.weights import Resolved, resolve
from common.settings import Section
from curation.versions import SCORES_FORMAT

DECODE_LIBRARIES = ("PIL", "cv2")  # they decode and resize


class FilterBroken(UserError, RuntimeError):
    """A filter cannot run here at all: its device, its environment, its file. Never the fault of an image."""


def stored_from(floor: float) -> Any:
    """The type of a confidence threshold that evidence can answer: `floor`, the lowest that is stored, to 1."""

    def check(value: float) -> float:
        if value < floor:
            raise ValueError(f"must be at least {floor}; lower evidence is not stored, so no cut could use it")
        return value

    return Annotated[float, Field(le=1), AfterValidator(check)]


class NoSettings(Section):
    """Settings of a filter that has none."""


@dataclass
class Measure:
    """A number of every image that a filter scored, as the report's histograms show it.

    `value_of` gives float64 (rows,) for a table of evidence. An image passes with a value at or above `threshold`
    (`above`) or at or below it. `decides`: moving this threshold alone moves the verdict the same way. `exclusive`: the
    recipe's threshold is the first count that fails, one more than the last that passes.
    """

    key: str
    title: str
    unit: str
    scale: Literal["log", "linear", "count"]
    value_of: Callable[[pa.Table], np.ndarray]
    threshold: float | None = None
    above: bool = True
    decides: bool = True
    exclusive: bool = False
    note: str = ""


@dataclass(frozen=True)
class Outline:
    """A shape to draw on a thumbnail: corners (x, y) as shares of the picture; bright if it counts, else grey."""

    corners: Sequence[tuple[float, float]]
    counts: bool


@dataclass(frozen=True)
class Machine:
    """What a filter is opened with, beside its settings.

    `weights`: a folder of model files, looked in first; `device`: where a filter that can use a GPU runs its model;
    `fingerprints`: of the filters that were opened before, by name.
    """

    limits: ImageLimits
    weights: str | None = None
    device: Literal["cpu", "gpu"] = "cpu"
    fingerprints: Mapping[str, str] = field(default_factory=dict)


class Check(abc.ABC):
    """One reason to drop an image, as the cut, the ledger and the report see it."""

    name: ClassVar[str]
    label: ClassVar[str]  # in the report's tables
    rejection: ClassVar[str]  # what is wrong with an image that it rejects, as a phrase
    needs: tuple[str, ...] = ()  # filters whose evidence it reads
    drawn: ClassVar[str] = ""  # the filter whose outlines show why; default: its own


class DerivedCheck(Check):
    """A check without scores of its own: its verdict is made of other filters' evidence and of metadata (judge.py)."""


class Filter(Check):
    """A check with scores of its own. Making one is cheap: models are loaded by the first `score`."""

    version: ClassVar[int]  # raised by hand when the same settings give other scores
    columns: ClassVar[tuple[pa.Field, ...]]  # the evidence, beside `id` and `error`
    Settings: ClassVar[type[Section]] = NoSettings  # what acts before the evidence; part of the fingerprint
    Thresholds: ClassVar[type[Section]]  # what the verdict compares the evidence with
    optional: ClassVar[bool] = False  # runs only where a recipe names it
    device: ClassVar[Literal["cpu", "gpu"]] = "cpu"  # where it is best run; the same code runs on both
    libraries: ClassVar[tuple[str, ...]] = ()  # modules whose version can change a score, beside the decoders
    # for calibration: the values that are tried of each threshold
    grid: ClassVar[Mapping[str, Sequence[Any]]] = {}
    # and the columns of a table of labels that are about it, with the words that each may hold; None: a whole number
    labels: ClassVar[Mapping[str, Sequence[str] | None]] = {}

    def __init__(self, settings: Section, machine: Machine, files: Mapping[str, Resolved] | None = None):
        """`files`: model files by role, already checked by hash."""
        self.settings, self.machine, self.files = settings, machine, dict(files or {})
        self.needs = self.needed(settings)

    # -- opening ------------------------------------------------------------------------------------------------

    @classmethod
    def weight_names(cls, settings: Section) -> dict[str, str]:
        """{role: name in common/pinned_files/weight_table.py} of the model files that these settings need."""
        return {}

    @classmethod
    def needed(cls, settings: Section) -> tuple[str, ...]:
        """The filters whose evidence these settings read."""
        return cls.needs

    @classmethod
    def open(cls, settings: Section, machine: Machine) -> Filter:
        """The filter with its model files found and checked by hash. No model is loaded.

        Raises:
            WeightError: a model file is missing or is not the pinned one.
        """
        files = {role: resolve(name, machine.weights) for role, name in cls.weight_names(settings).items()}
        return cls(settings, machine, files)

    @classmethod
    def of_description(cls, description: Mapping[str, Any]) -> Filter:
        """The filter that wrote scores, from what its `describe` said: for verdicts and reports, without model files."""
        return cls(cls.Settings.model_validate(description.get("settings") or {}), Machine(ImageLimits()))

    def describe(self) -> dict[str, Any]:
        """Everything that a score of this filter depends on, besides the bytes of the image."""
        return {
            "filter": self.name,
            "format": SCORES_FORMAT,
            "version": self.version,
            "settings": self.settings.model_dump(mode="json"),
            "decode": {"version": DECODE_VERSION, **self.machine.limits.model_dump()},
            "child": {"cpu_seconds": CHILD_CPU_SECONDS, "memory": CHILD_MEMORY},
            "weights": {role: file.sha256 for role, file in sorted(self.files.items())},
            "needs": {name: self.machine.fingerprints[name] for name in sorted(self.needs)},
            "libraries": {name: library_version(name) for name in (*DECODE_LIBRARIES, *self.libraries)},
        }

    @property
    def fingerprint(self) -> str:
        """12 hex digits: equal fingerprints mean equal scores of equal bytes."""
        return sha256_of_bytes(canonical_json(self.describe()).encode())[:12]

    @property
    def column(self) -> str:
        """Of its evidence in a run's scores."""
        return f"{self.name}-{self.fingerprint}"

    @property
    def schema(self) -> pa.Schema:
        """`id`, the evidence, and `error`: null, or why this filter could not score this image."""
        return pa.schema([pa.field("id", pa.string()), *self.columns, pa.field("error", pa.string())])

    # -- scoring and judging ------------------------------------------------------------------------------------

    @abc.abstractmethod
    def score(self, pictures: Sequence[Picture], needed: Mapping[str, pa.Table]) -> pa.Table:
        """Evidence for each picture, in order: a table of exactly `columns`, one row a picture.

        `needed`: for each name in `needs` a table whose rows are those pictures' evidence of that filter.
        A row may not depend on the other pictures of the batch.
        """

    @abc.abstractmethod
    def verdict(self, evidence: pa.Table, thresholds: Any) -> np.ndarray:
        """int8 (rows,): PASS, FAIL, or UNKNOWN where the evidence is null. Pure and cheap: loads no model."""

    # -- what others show and keep of it ------------------------------------------------------------------------

    def measures(self, thresholds: Any) -> list[Measure]:
        """The numbers that the report draws as histograms."""
        return []

    def outlines(self, evidence: Mapping[str, Any], size: tuple[int, int], thresholds: Any) -> list[Outline]:
        """What the report draws on a thumbnail. `evidence`: one row of the table; `size`: width, height of the image."""
        return []

    def in_sample(self, evidence: Mapping[str, Any]) -> dict[str, Any]:
        """What ID.json keeps of one image's evidence (a row of the table). Never null: a list is one JSON string."""
        return {}

    @classmethod
    def should_reject(cls, label: Mapping[str, str]) -> bool | None:
        """For calibration: whether a person's label says that this filter should reject the photo; None: no answer.

        `label`: every filter's `labels`; "" where the person said nothing.
        """
        return None


class MetadataFilter(Filter):
    """A filter that reads what the sources say of an image, and no pixel."""

    def score(self, pictures: Sequence[Picture], needed: Mapping[str, pa.Table]) -> pa.Table:
        raise TypeError(f"{self.name} reads metadata: score_metadata")

    @abc.abstractmethod
    def score_metadata(self, candidates: pa.Table, needed: Mapping[str, pa.Table]) -> pa.Table:
        """As `score`, from rows of candidates/ (run_directory/schemas.py: CANDIDATE) in place of pictures."""


@cache
def _distributions() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


def library_version(module: str) -> str:
    """The version of the package that brings `module`, without importing it. (onnxruntime comes from two packages.)"""
    return ", ".join(sorted({importlib.metadata.version(name) for name in _distributions().get(module, ())}))


def box_corners(box: Sequence[float], size: tuple[int, int]) -> list[tuple[float, float]]:
    """The four corners of a box x1, y1, x2, y2 in pixels, as shares of an image of width and height `size`."""
    x1, y1, x2, y2 = box[0] / size[0], box[1] / size[1], box[2] / size[0], box[3] / size[1]
    return [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]
