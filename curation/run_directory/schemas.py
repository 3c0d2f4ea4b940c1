"""The columns of a run directory's tables and the keys of its JSON files, each written down once.

docs/run-directory.md explains them. A filter's evidence is declared by the filter, and a cut's verdicts beside the
rules that make them, since both depend on the filters.
"""

from __future__ import annotations

from typing import TypedDict

import pyarrow as pa

# what the sources say of an image
UNRANKED_CANDIDATE = pa.schema(
    {
        "id": pa.string(),
        "url": pa.string(),
        "faces": pa.list_(pa.struct({"box": pa.list_(pa.int32()), "caption": pa.string(), "source_id": pa.string()})),
        "laion_caption": pa.string(),
        "image_caption": pa.string(),
        "image_short_caption": pa.string(),
        "in_hq": pa.bool_(),
        "width": pa.int32(),
        "height": pa.int32(),
        "nsfw": pa.string(),
        "license": pa.string(),
        "similarity": pa.float32(),
        "sample_id": pa.int64(),
    }
)
# candidates/BUCKET.parquet
CANDIDATE = UNRANKED_CANDIDATE.append(pa.field("rank", pa.int64()))
# selected/BUCKET.parquet
SELECTED = pa.schema([CANDIDATE.field(name) for name in ("id", "url", "rank")])
# fetched/plan-ROUND.parquet
ROUND = pa.schema({"id": pa.string(), "part": pa.int32()})
# fetched/ROUND/PART.parquet
ATTEMPT = pa.schema(
    {
        "id": pa.string(),
        "url": pa.string(),
        "round": pa.int32(),
        "part": pa.int32(),
        "status": pa.string(),
        "error": pa.string(),
        "detail": pa.string(),
        "http_status": pa.int32(),
        "final_url": pa.string(),
        "bytes": pa.int64(),
        "sha256": pa.string(),
        "seconds": pa.float32(),
        "tar": pa.string(),  # relative to the run; null where the attempt failed
        "key": pa.string(),
        "offset": pa.int64(),
        "size": pa.int64(),
    }
)
# fetched/ROUND/images/PART-HASH.parquet: the images of a part, what the sources say of them, where their bytes are
FETCHED = pa.schema([*CANDIDATE, *(ATTEMPT.field(name) for name in ("offset", "size", "sha256"))])
# fetched/snapshot*.parquet
SNAPSHOT = pa.schema(
    {
        "id": pa.string(),
        "tar": pa.dictionary(pa.int32(), pa.string()),
        "unit": pa.dictionary(pa.int32(), pa.string()),
        "offset": pa.int64(),
        "size": pa.int64(),
        "sha256": pa.string(),
    }
)
# of each image in scores/UNIT-HASH.parquet: what its decoding showed
IMAGES = pa.schema(
    {
        "id": pa.string(),
        "status": pa.string(),
        "detail": pa.string(),
        "format": pa.string(),
        "width": pa.int32(),
        "height": pa.int32(),
        "exif_orientation": pa.int32(),
        "sha256": pa.string(),
        "phash": pa.string(),
    }
)
# annotations/ENCODER-FINGERPRINT/UNIT-HASH.parquet
ANNOTATION = pa.schema(
    {
        "id": pa.string(),
        "box": pa.list_(pa.float32()),
        "landmarks": pa.list_(pa.float32()),
        "identity": pa.list_(pa.float32()),
        "has_identity": pa.bool_(),  # so that a report need not read the identities
        "error": pa.string(),  # what the encoder did twice to a process
    }
)
# cuts/NAME/plan.parquet
PLAN = pa.schema(
    {
        "id": pa.string(),
        "unit": pa.dictionary(pa.int32(), pa.string()),
        "shard": pa.int32(),
        "slot": pa.int32(),
        "face": pa.int32(),  # as in the verdicts
        "caption_face": pa.int32(),
    }
)


class SelectedCounts(TypedDict):
    """selected/counts.json. Written last by the select step: where it is, that step is done."""

    digest: str
    candidates: int
    wanted: int
    selected: int
    key: str
    rank_over: str
    cutoff: float


class SnapshotCounts(TypedDict):
    """fetched/snapshot*.json. selected = fetched + sum(failed) + lost; fetched = taken + surplus."""

    number: int
    selected: int
    fetched: int
    taken: int
    surplus: int
    failed: dict[str, int]
    lost: int
    hash: str
