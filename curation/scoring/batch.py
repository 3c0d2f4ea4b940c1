"""Scores a batch with one filter; where that fails, image by image, so that only the guilty one gets an error."""

from __future__ import annotations

import pyarrow as pa

from common.decode import Picture
from common.failures.transient import is_transient
from common.onnx_sessions import DeviceError
from curation.filters.base import Filter, FilterBroken

SEVERAL = 4  # images of a batch that do not all fail for reasons of their own


def score_each(item: Filter, pictures: list[Picture], needed: dict[str, pa.Table]) -> tuple[pa.Table, list[str | None]]:
    """Score a batch; where that raises, one by one, so that only the guilty image gets an error.

    Raises:
        FilterBroken: the filter cannot run here; also where it fails on every one of several images.
        MemoryError, OSError, RuntimeError: the world's (common/failures/transient.py), also for one image alone.
    """
    try:
        return item.score(pictures, needed), [None] * len(pictures)
    except (FilterBroken, DeviceError):
        raise
    except Exception as error:  # whatever a model chokes on becomes that image's row
        if len(pictures) == 1:
            if is_transient(error):
                raise
            return empty_row(item), [f"{type(error).__name__}: {error}"]
    parts = [
        score_each(item, [picture], {need: table.slice(row, 1) for need, table in needed.items()})
        for row, picture in enumerate(pictures)
    ]
    if len(pictures) >= SEVERAL and all(errors for _, (errors,) in parts):
        raise FilterBroken(f"{item.name} failed on each of {len(pictures)} images: {parts[0][1][0]}")
    table = pa.concat_tables([part.cast(pa.schema(item.columns)) for part, _ in parts])
    return table, [error for _, (error,) in parts]


def empty_row(item: Filter) -> pa.Table:
    return pa.table({field.name: pa.nulls(1, field.type) for field in item.columns})
