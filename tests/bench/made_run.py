"""A run directory of any number of images that nobody fetched: every table that the driver's steps read, no pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from common.hashing import sha256_of_bytes
from curation.filters.evidence import Evidence
from curation.recipe.recipe import Recipe
from curation.run_directory.attempts import images_file, part_name, unit_name
from curation.run_directory.candidates import SELECTED_COUNTS, buckets_of
from curation.run_directory.run import Run
from curation.run_directory.schemas import ATTEMPT, CANDIDATE, FETCHED, SelectedCounts
from curation.run_directory.scores import scores_table, write_unit
from curation.versions import RUN_FORMAT

PART = 1000
CAPTION = "A woman with long brown hair, arched eyebrows and a slight smile looks to the left of the camera; " * 3


FACE = {"box": [100.0, 100.0, 400.0, 400.0], "score": 0.9, "landmarks": [200.0] * 10}
# evidence that every filter passes
PASSING = {"grayscale": {"std": 30.0}, "text": {"boxes": []}, "faces": {"boxes": [FACE]}, "anime": {"hits": []}}


def make_run(root: Path, rows: int, recipe: Recipe, part: int = PART, with_scores: bool = True) -> Run:
    """candidates/, selected/, one round of fetched/ and scores/ of `rows` images, every one of them fetched and passing, in
    units of `part`."""
    run, draw = Run(root), np.random.default_rng(0)
    numbers = np.unique(draw.integers(0, 1 << 63, rows + rows // 100, dtype=np.uint64))[:rows] * np.uint64(2)
    ids = [f"{number:016x}" for number in numbers.tolist()]
    buckets = max(1, rows // 50_000)
    bucket_of = buckets_of(ids, buckets)
    for bucket in range(buckets):
        mine = [text for text, number in zip(ids, bucket_of, strict=True) if number == bucket]
        run.write_table(f"candidates/{bucket:05d}.parquet", candidates(mine))
        run.write_table(f"selected/{bucket:05d}.parquet", candidates(mine).select(["id", "url", "rank"]))
    run.write_json("candidates/counts.json", {"rows": rows, "merged": rows, "candidates": rows, "buckets": buckets})
    counts = SelectedCounts(
        digest="", candidates=rows, wanted=rows, selected=rows, key="box_min_side", rank_over="metadata", cutoff=1
    )
    run.write_json(SELECTED_COUNTS, counts)
    filters = recipe.open_filters()
    for number, start in enumerate(range(0, rows, part)):
        mine = ids[start : start + part]
        tar = f"{part_name(0, number)}-{number:016x}.tar"
        facts = [
            {"id": text, "url": url_of(text), "round": 0, "part": number, "status": "success", "tar": tar,
             "offset": 100_000 * place, "size": 90_000, "sha256": sha256_of_bytes(text.encode()), "key": f"{place:09d}"}
            for place, text in enumerate(mine)
        ]  # fmt: skip
        attempts = pa.Table.from_pylist(facts, schema=ATTEMPT)
        run.write_table(f"{part_name(0, number)}.parquet", attempts)
        fetched = candidates(mine)
        for name in ("offset", "size", "sha256"):
            fetched = fetched.append_column(FETCHED.field(name), attempts[name])
        run.write_table(images_file(tar), fetched)
        if with_scores:
            write_unit(run, "scores", unit_name(0, number), scores(mine, filters))
    weights = {"identity": {"name": "none"}, "weights": []}
    run.write_json("manifest.json", {"recipe": recipe.model_dump(mode="json"), "format": RUN_FORMAT, **weights})
    return run


def url_of(text: str) -> str:
    """As long as a usual one."""
    return (
        f"https://images-{text[:3]}.photos.test/wp-content/uploads/2019/08/{text[3:]}/portrait-of-a-woman-1024x683.jpg"
    )


def candidates(ids: list[str]) -> pa.Table:
    face = {"box": [100, 100, 400, 400], "caption": CAPTION}
    rows = [
        {"id": text, "url": url_of(text), "faces": [{**face, "source_id": text}], "rank": place,
         "laion_caption": "a photo", "width": 800, "height": 800, "sample_id": place}
        for place, text in enumerate(ids)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=CANDIDATE)


def scores(ids: list[str], filters) -> pa.Table:
    """Of images that every filter passes."""
    evidence = {
        item.column: Evidence(
            pa.Table.from_pylist([{"id": text, "error": None, **PASSING[name]} for text in ids], schema=item.schema),
            np.ones(len(ids), bool),
        )
        for name, item in filters.items()
    }
    size = {"format": "jpeg", "width": 800, "height": 800, "exif_orientation": 1}
    images = {
        text: {"id": text, "status": "ok", "detail": None, "sha256": text * 4, "phash": text, **size} for text in ids
    }
    return scores_table(ids, images, evidence)
