"""What the report says beside verdicts: the web, duplicates, and what is in the shards."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow.compute as pc

from curation.ledger.model import Ledger
from curation.ledger.tables import among, ids_of, rows_of

CAPTIONS = 200_000  # captions that are read: ids are hashes, so the first buckets are a fair sample


# -- the web -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Host:
    name: str
    images: int
    fetched: int

    @property
    def share(self) -> float:
        return self.fetched / self.images


@dataclass(frozen=True)
class Round:
    number: int
    attempts: int
    success: int

    @property
    def failed(self) -> int:
        return self.attempts - self.success


@dataclass
class Web:
    """How fetching went. `healed`: {class of the first failure: images that came in a later round}."""

    classes: dict[str, int]
    hosts: list[Host]
    hosts_in_all: int
    rounds: list[Round]
    healed: dict[str, int]


def web(ledger: Ledger, top: int = 20) -> Web | None:
    attempts = ledger.attempts
    if attempts is None:
        return None
    last = attempts.last()
    images = np.bincount(attempts.host[last], minlength=len(attempts.hosts.words))
    fetched = np.bincount(attempts.host[last & attempts.success], minlength=len(images))
    order = np.lexsort((np.arange(len(images)), -images))[:top]
    hosts = [Host(attempts.hosts.words[index], int(images[index]), int(fetched[index])) for index in order]
    rounds = [
        Round(number, int(mine.sum()), int((mine & attempts.success).sum()))
        for number in np.unique(attempts.rounds).tolist()
        for mine in [attempts.rounds == number]
    ]
    first = np.append(True, attempts.ids[1:] != attempts.ids[:-1])
    came = among(attempts.ids, attempts.ids[attempts.success])
    return Web(
        classes=attempts.errors.count(attempts.error[last & ~attempts.success]),
        hosts=hosts,
        hosts_in_all=int((images > 0).sum()),
        rounds=rounds,
        healed=attempts.errors.count(attempts.error[first & ~attempts.success & came]),
    )


# -- duplicates --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Twins:
    """Groups of kept images that are the same by some hash, largest first."""

    groups: list[np.ndarray]
    images: int

    @property
    def surplus(self) -> int:
        return self.images - len(self.groups)


def twins(ledger: Ledger) -> tuple[Twins, Twins] | None:
    """By equal bytes (sha256), and by equal perceptual hash but other bytes, among the kept."""
    if ledger.images is None or not len(ledger.kept):
        return None
    row = rows_of(ledger.images.ids, ledger.kept)
    ids, row = ledger.kept[row >= 0], row[row >= 0]
    sha, phash = ledger.images.sha256[row], ledger.images.phash[row]
    first = np.sort(np.unique(sha, return_index=True)[1])
    hashed = first[phash[first] != 0]  # 0: decoded before there was a hash, or a flat picture
    return _groups(ids, sha), _groups(ids[hashed], phash[hashed])


def _groups(ids: np.ndarray, keys: np.ndarray) -> Twins:
    order = np.lexsort((ids, keys))
    starts = np.flatnonzero(np.append(True, keys[order][1:] != keys[order][:-1])) if len(keys) else np.zeros(0, int)
    ends = np.append(starts[1:], len(keys))
    several = np.flatnonzero(ends - starts > 1) if len(keys) else ()
    groups = [ids[order[starts[index] : ends[index]]] for index in several]
    groups.sort(key=lambda group: (-len(group), int(group[0])))
    return Twins(groups, sum(len(group) for group in groups))


# -- the shards ----------------------------------------------------------------------------------------------------


@dataclass
class Contents:
    """Of the kept images; `words` and `boxes` may be of a sample of `described`."""

    shards: int
    samples: int
    bytes: int
    forgotten: int
    short_sides: np.ndarray
    megapixels: float
    words: np.ndarray = field(default_factory=lambda: np.zeros(0))
    empty: int = 0
    caption: str = "face"
    boxes: np.ndarray = field(default_factory=lambda: np.zeros(0))
    described: int = 0


def contents(ledger: Ledger) -> Contents | None:
    if ledger.verdicts is None:
        return None
    sidecars = ledger.shards.sidecars
    samples = sum(sidecar["samples"] for sidecar in sidecars)
    whole = sum(ledger.shards.planned_shards.get(sidecar["shard"], sidecar["samples"]) for sidecar in sidecars)
    sides, pixels = np.zeros(0), 0.0
    if ledger.images is not None and len(ledger.kept):
        row = rows_of(ledger.images.ids, ledger.kept)
        width, height = ledger.images.width[row[row >= 0]], ledger.images.height[row[row >= 0]]
        sides, pixels = np.minimum(width, height), float(np.mean(width.astype(np.float64) * height) / 1e6)
    found = Contents(len(sidecars), samples, sum(s.get("bytes", 0) for s in sidecars), whole - samples, sides, pixels)
    found.caption = (ledger.recipe.get("pack") or {}).get("caption", "face")
    _captions(ledger, found)
    return found


def _captions(ledger: Ledger, found: Contents) -> None:
    column = {"face": "faces", "image": "image_caption", "laion": "laion_caption"}[found.caption]
    words, boxes = [], []
    for path in ledger.run.glob("candidates/*.parquet"):
        if found.described >= CAPTIONS:
            break
        table = ledger.run.read_table(path, sorted({"id", "faces", column}))
        ids = ids_of(table, path)
        mine = among(ids, ledger.kept)
        table, ids = table.filter(mine), ids[mine]
        if not table.num_rows:
            continue
        faces = table["faces"].combine_chunks()
        lengths = pc.list_value_length(faces).to_numpy(zero_copy_only=False)
        boxes.append(lengths)
        if column == "faces":
            chosen = ledger.verdicts.caption_face[rows_of(ledger.verdicts.ids, ids)]
            texts: list[Any] = [
                caption[0 if index < 0 else index] if caption else None
                for caption, index in zip(_captions_of(faces), chosen.tolist(), strict=True)
            ]
        else:
            texts = table[column].to_pylist()
        words.append(np.array([len((text or "").split()) for text in texts]))
        found.described += len(ids)
    if words:
        found.words, found.boxes = np.concatenate(words), np.concatenate(boxes)
        found.empty = int((found.words == 0).sum())


def _captions_of(faces: Any) -> list[list[str]]:
    flat = pc.struct_field(pc.list_flatten(faces), "caption").to_pylist()
    ends = np.cumsum(pc.list_value_length(faces).fill_null(0).to_numpy(zero_copy_only=False))
    return [flat[start:end] for start, end in zip(np.append(0, ends[:-1]), ends, strict=True)]
