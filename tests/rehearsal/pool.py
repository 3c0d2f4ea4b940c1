"""What a made run is drawn from: candidates, decode facts, evidence and failures of a run that really took place.

An image of a made run is a row of the pool under another id. Which row is a function of the id alone, so that every table of
a made run agrees with the others, whoever writes it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from common.errors import UserError
from curation.cutting.judge import judge
from curation.filters.base import Filter
from curation.filters.evidence import FAIL
from curation.filters.registry import check_names
from curation.recipe.recipe import Recipe
from curation.run_directory.attempts import LOST, latest_attempts
from curation.run_directory.run import Run
from curation.run_directory.schemas import ATTEMPT, FETCHED, IMAGES
from curation.run_directory.snapshot import require_snapshot
from curation.run_directory.units import UnitScores, units_of

FACE = {"box": [100.0, 100.0, 400.0, 400.0], "score": 0.9, "landmarks": [200.0] * 10}
# evidence that every filter passes
PASSING = {"grayscale": {"std": 30.0}, "text": {"boxes": []}, "faces": {"boxes": [FACE]}, "anime": {"hits": []}}
CAPTION = "A woman with long brown hair, arched eyebrows and a slight smile looks to the left of the camera; " * 3


@dataclass(frozen=True)
class Pool:
    """Rows that fetched images are drawn from, all of one length, and rows that failed attempts are drawn from.

    `fetched`: of `FETCHED`; `images`: of `IMAGES`; `evidence`: of each filter's schema; `tried[name]` bool (rows,): whether
    that filter is reached where each stops at the first rejection; `failures`: of `ATTEMPT`; `dead`: the share of failures.
    """

    fetched: pa.Table
    images: pa.Table
    evidence: dict[str, pa.Table]
    tried: dict[str, np.ndarray]
    failures: pa.Table
    dead: float

    def kinds(self, ids: np.ndarray) -> np.ndarray:
        """int64 (ids,): the row of each fetched image."""
        return (scrambled(ids, 1) % np.uint64(self.fetched.num_rows)).astype(np.int64)

    def failed(self, ids: np.ndarray) -> np.ndarray:
        """bool (ids,): which could not be fetched."""
        return scrambled(ids, 2) < np.uint64(int(self.dead * (1 << 63)) * 2)


def scrambled(ids: np.ndarray, stream: int) -> np.ndarray:
    """uint64 (ids,): a number that looks random, of each id and the stream alone (murmur3's finaliser)."""
    with np.errstate(over="ignore"):
        value = ids + np.uint64((stream * 0x9E3779B97F4A7C15) & ((1 << 64) - 1))
        value = (value ^ (value >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
        value = (value ^ (value >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
        return value ^ (value >> np.uint64(33))


def pool_of(run: Run, recipe: Recipe) -> Pool:
    """The pool of a run whose images were scored by every filter of the recipe.

    Raises:
        UserError: they were not, or not by filters like these.
    """
    filters = recipe.open_filters()
    parts = [UnitScores(run, unit, filters) for unit in units_of(run, require_snapshot(run))]
    fetched = pa.concat_tables([part.fetched for part in parts]).combine_chunks()
    rows = [image for part in parts for image in part.images]
    if any(image is None for image in rows):
        raise UserError(f"{run.root}: its images were not all decoded: `make curate` comes first")
    evidence = {
        name: pa.concat_tables([part.evidence[name].table for part in parts]).combine_chunks() for name in filters
    }
    decodes = np.array([image["status"] == "ok" for image in rows])
    for name in filters:
        seen = np.concatenate([part.evidence[name].seen for part in parts])
        if not seen[decodes].all():
            raise UserError(
                f"{run.root}: `{name}` as it is here did not score all of its images: curate the sample anew"
            )
    attempts = pa.concat_tables([ATTEMPT.empty_table(), *latest_attempts(run, ATTEMPT.names[1:])])
    failures = attempts.filter(pc.and_(attempts["error"].is_valid(), pc.not_equal(attempts["error"], LOST)))
    images = pa.Table.from_pylist(rows, schema=IMAGES)
    tried = _tried(parts, filters, recipe, decodes)
    return Pool(fetched, images, evidence, tried, failures, failures.num_rows / attempts.num_rows)


def _tried(
    parts: list[UnitScores], filters: dict[str, Filter], recipe: Recipe, decodes: np.ndarray
) -> dict[str, np.ndarray]:
    judged = [judge(part.evidence, filters, recipe.thresholds, part.boxes) for part in parts]
    open_rows, tried = decodes.copy(), {}
    for check in check_names(filters):
        if check in filters:
            tried[check] = open_rows.copy()
        open_rows &= np.concatenate([each.checks[check] for each in judged]) != FAIL
    return tried


def passing_pool(recipe: Recipe) -> Pool:
    """One image, fetched, that every filter passes."""
    face = {"box": [100, 100, 400, 400], "caption": CAPTION, "source_id": "0"}
    candidate = {"faces": [face], "laion_caption": "a photo", "width": 800, "height": 800, "sample_id": 0}
    fetched = pa.Table.from_pylist([{**candidate, "size": 90_000}], schema=FETCHED)
    image = {"status": "ok", "format": "jpeg", "width": 800, "height": 800, "exif_orientation": 1}
    filters = recipe.open_filters()
    evidence = {name: pa.Table.from_pylist([PASSING[name]], schema=item.schema) for name, item in filters.items()}
    tried = dict.fromkeys(filters, np.ones(1, bool))
    return Pool(fetched, pa.Table.from_pylist([image], schema=IMAGES), evidence, tried, ATTEMPT.empty_table(), 0.0)
