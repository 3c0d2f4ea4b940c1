"""The contract of a filter: it scores an image, once; it never deletes anything.

A filter knows nothing of Ray, of other filters' verdicts, or of thresholds while it scores. What it writes is
*evidence*, raw and down to a low floor, so that any threshold above the floor can be tried later without a
model. Its `verdict` is a pure, vectorised function of evidence and thresholds.
"""

from __future__ import annotations

import abc
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel

from common.decode import DECODE_VERSION, ImageLimits, Picture
from common.hashing import canonical_json

FAIL, PASS, UNKNOWN = np.int8(0), np.int8(1), np.int8(-1)


class FilterBroken(RuntimeError):
    """A filter cannot run here at all: its device, its environment, its file. Never the fault of an image."""


class Filter(abc.ABC):
    """One reason to drop an image. Making one is cheap: models are loaded by the first `score`."""

    name: ClassVar[str]
    version: ClassVar[int]
    device: ClassVar[str] = "cpu"  # where it is best run: "cpu" or "gpu"; the same code runs on both
    needs: ClassVar[tuple[str, ...]] = ()  # filters whose evidence `score` reads
    columns: ClassVar[tuple[pa.Field, ...]]  # the evidence, beside `id` and `error`

    def __init__(
        self,
        settings: BaseModel,
        limits: ImageLimits,
        weights: Mapping[str, Path] | None = None,
        weight_hashes: Mapping[str, str] | None = None,
        needed_fingerprints: Mapping[str, str] | None = None,
        device: str = "cpu",
    ):
        """`settings`: what acts before the evidence; `weights`: files by role, already checked by hash."""
        self.settings = settings
        self.limits = limits
        self.weights = dict(weights or {})
        self.weight_hashes = dict(weight_hashes or {})
        self.needed_fingerprints = dict(needed_fingerprints or {})
        self.run_on = device

    def describe(self) -> dict[str, Any]:
        """Everything that a score of this filter depends on, besides the bytes of the image."""
        return {
            "filter": self.name,
            "version": self.version,
            "settings": self.settings.model_dump(mode="json"),
            "decode": {"version": DECODE_VERSION, **self.limits.model_dump()},
            "weights": dict(sorted(self.weight_hashes.items())),
            "needs": dict(sorted(self.needed_fingerprints.items())),
        }

    @property
    def fingerprint(self) -> str:
        """12 hex digits: equal fingerprints mean equal scores of equal bytes."""
        return hashlib.sha256(canonical_json(self.describe()).encode()).hexdigest()[:12]

    @property
    def folder(self) -> str:
        """Where its scores stand in a run."""
        return f"scores/{self.name}-{self.fingerprint}"

    @property
    def schema(self) -> pa.Schema:
        """`id`, the evidence, and `error`: null, or why this filter could not score this image."""
        return pa.schema([pa.field("id", pa.string()), *self.columns, pa.field("error", pa.string())])

    @abc.abstractmethod
    def score(self, pictures: Sequence[Picture], needed: Mapping[str, pa.Table]) -> pa.Table:
        """Evidence for each picture, in order: a table of exactly `columns`, one row a picture.

        `needed`: for each name in `needs` a table whose rows are those pictures' evidence of that filter.
        A row may not depend on the other pictures of the batch.
        """

    @abc.abstractmethod
    def verdict(self, evidence: pa.Table, thresholds: Any) -> np.ndarray:
        """int8 (rows,): PASS, FAIL, or UNKNOWN where the evidence is null. Pure and cheap: loads no model."""


def missing(evidence: pa.Table, column: str) -> np.ndarray:
    """bool (rows,): where that evidence is null."""
    return evidence[column].is_null().to_numpy()


def passed(ok: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """int8 (rows,): PASS where `ok`, FAIL where not, UNKNOWN where `unknown` whatever `ok` says."""
    return np.where(unknown, UNKNOWN, np.where(ok, PASS, FAIL)).astype(np.int8)


def flattened(evidence: pa.Table, column: str, *fields: str) -> tuple[np.ndarray, ...]:
    """A list<struct> column as flat arrays: the row of each item, then each field, (items,) or (items, length).

    Nulls and empty lists have no item. Rows ascend, so per-row reductions need no sort.
    """
    lists = evidence[column].combine_chunks()
    if isinstance(lists, pa.ChunkedArray):  # older pyarrow: an empty column stays chunked
        lists = lists.chunk(0) if lists.num_chunks else pa.array([], lists.type)
    items = pc.list_flatten(lists)
    arrays = [pc.list_parent_indices(lists).to_numpy()]
    for name in fields:
        values = pc.struct_field(items, name)
        if pa.types.is_list(values.type) or pa.types.is_fixed_size_list(values.type):
            flat = pc.list_flatten(values).to_numpy(zero_copy_only=False)
            arrays.append(flat.reshape(len(items), -1) if len(items) else flat.reshape(0, 0))
        else:
            arrays.append(values.to_numpy(zero_copy_only=False))
    return tuple(arrays)
