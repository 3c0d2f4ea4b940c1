"""Run directories of any size that nobody fetched: every table that the steps read, true in schema and in distribution.

Without `image_bytes`, tables alone: the tars are named and not there. With it each image is a small JPEG that no other equals,
of so many bytes, and what its decoding showed is what the pool says: for steps that move bytes and look at no pixel.
"""

from __future__ import annotations

import io
import multiprocessing
import random
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from common.hashing import sha256_of_bytes
from common.progress import ProgressBar
from curation.cutting.audit import audit_limit, audited
from curation.filters.base import Filter
from curation.recipe.recipe import Recipe
from curation.run_directory.attempts import images_file, part_name, unit_name
from curation.run_directory.candidates import SELECTED_COUNTS, id_texts
from curation.run_directory.run import Run
from curation.run_directory.schemas import ATTEMPT, CANDIDATE, FETCHED, IMAGES, SELECTED, SelectedCounts
from curation.run_directory.scores import IMAGE, write_unit
from curation.run_directory.snapshot import write_snapshot
from curation.versions import RUN_FORMAT
from tests.rehearsal.pool import Pool, scrambled

BUCKET = 50_000  # candidates in a file
STEPS = ("select", "fetch", "score")
SURPLUS = 0.32  # candidates that were not selected, as a share of those that were: of 13.2 million 10


@dataclass(frozen=True)
class Made:
    """Everything that a process needs to write a part of a made run. `ids`: of the candidates, ascending; `selected` bool:
    which of them were."""

    root: str
    recipe: Recipe
    pool: Pool
    ids: np.ndarray
    ranks: np.ndarray
    selected: np.ndarray
    audit: int
    until: str
    image_bytes: int


def make_run(
    root: Path | str, rows: int, recipe: Recipe, pool: Pool, until: str = "score", surplus: float = SURPLUS, seed: int = 0,
    processes: int = 1, image_bytes: int = 0,
) -> Run:  # fmt: skip
    """A run of `rows` selected images, made up to one of `STEPS`; the snapshot is the real step's.

    The same arguments make the same bytes, with any number of processes.
    """
    draw = np.random.default_rng(seed)
    count = rows + round(surplus * rows)
    # unique: a few more are drawn, and the last of them cut off
    ids = np.unique(draw.integers(0, 1 << 64, count + count // 100 + 8, dtype=np.uint64))
    ids = np.sort(draw.permutation(ids)[:count])
    ranks = draw.permutation(count)
    taken = ids[ranks < rows]
    taken = taken[~pool.failed(taken)]
    limit = audit_limit(
        pa.table({"id": pa.chunked_array([pa.array(taken)])}),
        recipe.score.audit_share, recipe.score.audit_minimum, recipe.seed,
    )  # fmt: skip
    made = Made(str(root), recipe, pool, ids, ranks, ranks < rows, limit, until, image_bytes)
    run = Run(root)
    parts = 0 if until == "select" else -(-rows // recipe.fetch.part_size)
    work = [("candidates", number) for number in range(_buckets(made))] + [("part", number) for number in range(parts)]
    with ProgressBar("made run", len(work), "files") as progress:
        for _ in _done(made, work, processes):
            progress.advance(1)
    counts = {"rows": count, "merged": count, "candidates": count, "buckets": _buckets(made), "dropped": {}}
    run.write_json("candidates/counts.json", counts)
    run.write_json(
        SELECTED_COUNTS,
        SelectedCounts(
            digest="", candidates=count, wanted=rows, selected=rows, key="box_min_side", rank_over="metadata", cutoff=1
        ),
    )
    weights = {"identity": {"name": "none"}, "weights": []}
    run.write_json("manifest.json", {"recipe": recipe.model_dump(mode="json"), "format": RUN_FORMAT, **weights})
    for name, item in recipe.open_filters().items() if until == "score" else ():
        run.write_json(f"scores/{item.column}/filter.json", item.describe() | {"name": name})
    if until != "select":
        write_snapshot(run, recipe)
    return run


def _buckets(made: Made) -> int:
    return min(512, max(1, len(made.ids) // BUCKET))


# -- by several processes ----------------------------------------------------------------------------------------------

_made: Made | None = None
_filters: dict[str, Filter] = {}


def _done(made: Made, work: list[tuple[str, int]], processes: int) -> Iterator[None]:
    if processes < 2:
        _begin(made)
        yield from map(_write, work)
        return
    with multiprocessing.get_context("spawn").Pool(processes, _begin, (made,)) as pool:
        yield from pool.imap_unordered(_write, work, chunksize=8)


def _begin(made: Made) -> None:
    global _made
    pa.set_cpu_count(1)
    _made = made
    _filters.clear()
    _filters.update(made.recipe.open_filters())


def _write(work: tuple[str, int]) -> None:
    assert _made
    kind, number = work
    (_write_candidates if kind == "candidates" else _write_part)(_made, Run(_made.root), number)


def _write_candidates(made: Made, run: Run, bucket: int) -> None:
    buckets = _buckets(made)
    of_id = (made.ids >> np.uint64(48)) * np.uint64(buckets) >> np.uint64(16)
    place = slice(*np.searchsorted(of_id, [bucket, bucket + 1]))
    rows = _candidates(made, made.ids[place], made.ranks[place])
    run.write_table(f"candidates/{bucket:05d}.parquet", rows)
    run.write_table(
        f"selected/{bucket:05d}.parquet", rows.filter(pa.array(made.selected[place])).select(SELECTED.names)
    )


def _candidates(made: Made, ids: np.ndarray, ranks: np.ndarray) -> pa.Table:
    texts = id_texts(ids)
    columns = made.pool.fetched.select(CANDIDATE.names).take(pa.array(made.pool.kinds(ids)))
    faces = _whole(columns["faces"].combine_chunks())
    new = {"id": texts, "url": urls(texts), "rank": pa.array(ranks, pa.int64()), "faces": _own_captions(faces, texts)}
    for name, values in new.items():
        columns = columns.set_column(columns.column_names.index(name), CANDIDATE.field(name), values)
    return columns.cast(CANDIDATE)


def _own_captions(faces: pa.Array, texts: pa.Array) -> pa.Array:
    """Each caption ends with the id: no two captions of a data set are the same, and equal ones would cost nothing to read."""
    struct = faces.flatten()
    whose = texts.take(pc.list_parent_indices(faces))
    captions = pc.binary_join_element_wise(struct.field("caption"), whose, " ")
    fields = [captions if field.name == "caption" else struct.field(field.name) for field in struct.type]
    offsets = pc.subtract(faces.offsets, faces.offsets[0])
    return pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays(fields, fields=list(struct.type)))


def urls(texts: pa.Array) -> pa.Array:
    """As long as usual ones."""
    host, rest = pc.utf8_slice_codeunits(texts, 0, 3), pc.utf8_slice_codeunits(texts, 3)
    pieces = [
        "https://images-",
        host,
        ".photos.test/wp-content/uploads/2019/08/",
        rest,
        "/portrait-of-a-woman-1024x683.jpg",
    ]
    return pc.binary_join_element_wise(*pieces, "")


def _write_part(made: Made, run: Run, number: int) -> None:
    size, pool = made.recipe.fetch.part_size, made.pool
    place = np.flatnonzero(made.selected)[number * size : (number + 1) * size]
    ids = made.ids[place]
    texts, failed = id_texts(ids), pool.failed(ids)
    tar = f"{part_name(0, number)}-{number:016x}.tar"
    there = np.flatnonzero(~failed)
    sizes, offsets = np.zeros((2, len(ids)), np.int64)
    if made.image_bytes:
        sizes[there], offsets[there] = _write_tar(run, tar, ids[there], made.image_bytes)
    else:
        sizes[there] = pool.fetched["size"].to_numpy()[pool.kinds(ids[there])]
        offsets = np.cumsum(sizes + 512) - sizes
    alive = pa.array(~failed)
    hashes = _hashes(made, ids)
    facts = {
        "id": texts, "url": urls(texts), "round": _same(0, len(ids)), "part": _same(number, len(ids)),
        "status": pc.if_else(alive, "success", "failed_to_download"), "bytes": pa.array(sizes, mask=failed),
        "sha256": pc.if_else(alive, hashes, None), "tar": pc.if_else(alive, tar, None),
        "key": pc.utf8_lpad(pa.array(np.arange(len(ids))).cast(pa.string()), 9, "0"),
        "offset": pa.array(offsets, mask=failed), "size": pa.array(sizes, mask=failed),
    }  # fmt: skip
    if failed.any():
        kinds = (scrambled(ids, 3) % np.uint64(pool.failures.num_rows)).astype(np.int64)
        for name in ("error", "detail", "http_status"):
            facts[name] = pc.if_else(alive, None, pool.failures[name].take(pa.array(kinds)).combine_chunks())
    columns = [facts.get(name, pa.nulls(len(ids))) for name in ATTEMPT.names]
    run.write_table(f"{part_name(0, number)}.parquet", pa.table(columns, names=ATTEMPT.names).cast(ATTEMPT))
    fetched = _candidates(made, ids[~failed], made.ranks[place][~failed])
    for name in ("offset", "size", "sha256"):
        fetched = fetched.append_column(
            FETCHED.field(name), facts[name].take(pa.array(there)).cast(FETCHED.field(name).type)
        )
    run.write_table(images_file(tar), fetched)
    if made.until == "score":
        write_unit(run, "scores", unit_name(0, number), _scores(made, ids[~failed]))


def _hashes(made: Made, ids: np.ndarray) -> pa.Array:
    """Of each image's bytes; without bytes, of each another one."""
    if made.image_bytes:
        return pa.array([sha256_of_bytes(tiny_jpeg(number, made.image_bytes)) for number in ids.tolist()], pa.string())
    texts = id_texts(ids)
    return pc.binary_join_element_wise(texts, texts, texts, texts, "")


def _write_tar(run: Run, path: str, ids: np.ndarray, image_bytes: int) -> tuple[np.ndarray, np.ndarray]:
    """Sizes and offsets of the images' bytes in their tar."""
    out, places = io.BytesIO(), []
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for row, number in enumerate(ids.tolist()):
            data = tiny_jpeg(number, image_bytes)
            info = tarfile.TarInfo(f"{row:09d}.jpg")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
            places.append((len(data), tar.offset - -(-len(data) // 512) * 512))
    run.write_bytes(path, out.getvalue())
    sizes, offsets = np.array(places, np.int64).reshape(-1, 2).T
    return sizes, offsets


@cache
def _plain_jpeg() -> bytes:
    slope = np.linspace(0, 255, 64 * 48 * 3, dtype=np.uint8).reshape(48, 64, 3)
    return cv2.imencode(".jpg", slope, [cv2.IMWRITE_JPEG_QUALITY, 60])[1].tobytes()


def tiny_jpeg(number: int, size: int) -> bytes:
    """A picture of 64 x 48 with comments: the number, and noise until it has about `size` bytes."""
    draw = random.Random(number)
    lengths = [16] + [min(60_000, size - start) for start in range(len(_plain_jpeg()), size, 60_000)]
    comments = [f"{number:016x}".encode(), *(draw.randbytes(length) for length in lengths[1:])]
    segments = b"".join(b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text for text in comments)
    return _plain_jpeg()[:2] + segments + _plain_jpeg()[2:]


def _same(value: int, length: int) -> pa.Array:
    return pa.array(np.full(length, value, np.int32))


def _scores(made: Made, ids: np.ndarray) -> pa.Table:
    pool, texts = made.pool, id_texts(ids)
    kinds = pool.kinds(ids)
    rows = pa.array(kinds)
    images = pool.images.take(rows).combine_chunks()
    unique = {"sha256": _hashes(made, ids), "phash": id_texts(scrambled(ids, 4))}
    if made.image_bytes:
        unique["format"] = _whole(pc.if_else(images["format"].is_valid(), "jpeg", None).combine_chunks())
    named = [field.name for field in IMAGE]
    facts = [unique.get(name, images[name].combine_chunks()) for name in named]
    assert named == [name for name in IMAGES.names if name != "id"]
    columns = {"id": texts, "image": pa.StructArray.from_arrays([_whole(each) for each in facts], fields=list(IMAGE))}
    # as the scoring would have it: no further than the first rejection, but for the audit lane
    audit = audited(pa.chunked_array([texts]), made.recipe.seed, made.audit)
    decodes = pc.equal(images["status"], "ok").to_numpy()
    for name, item in _filters.items():
        evidence = pool.evidence[name].take(rows).combine_chunks()
        arrays = [_whole(evidence[field.name].combine_chunks()) for field in item.schema if field.name != "id"]
        seen = decodes & (pool.tried[name][kinds] | audit)
        fields = [field for field in item.schema if field.name != "id"]
        columns[item.column] = pa.StructArray.from_arrays(arrays, fields=fields, mask=pa.array(~seen))
    return pa.table(columns)


def _whole(array: pa.Array | pa.ChunkedArray) -> pa.Array:
    return array.chunk(0) if isinstance(array, pa.ChunkedArray) else array
