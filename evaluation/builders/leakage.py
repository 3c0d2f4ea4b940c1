"""Whether a photo was trained on: by its id, by its bytes, or as a near duplicate by perceptual hash."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from common.decode import Undecodable, decode
from common.hashing import sha256_of_bytes
from common.progress import say
from common.shard_format import read_record
from common.storage import Storage
from evaluation.builders.shard_folder import ShardFolder
from evaluation.sets import SetError

ALIKE = 10  # of 64 bits: a photo, re-encoded or filtered, differs from itself in fewer; two photos in some thirty
Leak = Literal["by_id", "by_bytes", "by_likeness"]
REASONS: dict[Leak, str] = {
    "by_id": "trained on: the same id",
    "by_bytes": "trained on: the same bytes",
    "by_likeness": f"trained on: a near duplicate (perceptual hash at most {ALIKE} of 64 bits apart)",
}


@dataclass(frozen=True)
class Trained:
    """What a model was trained on. `hashes`: uint64, the perceptual hash of each sample's picture."""

    place: str
    ids: frozenset[str]
    sha256: frozenset[str]
    hashes: np.ndarray

    def leak(self, sample: str, sha256: str, phash: str) -> Leak | None:
        """How a photo is known to have been trained on; None where it is not."""
        if sample in self.ids:
            return "by_id"
        if sha256 in self.sha256:
            return "by_bytes"
        apart = np.bitwise_count(self.hashes ^ np.uint64(int(phash, 16)))
        return "by_likeness" if len(apart) and apart.min() <= ALIKE else None


def read_trained(place: str) -> Trained:
    """What `place` was trained on: the OUT of `make train` (the shards that its newest checkpoint names), or shards.

    Raises:
        SetError: neither.
    """
    storage = Storage(place)
    checkpoints = storage.glob("checkpoints/step-*/manifest.json")
    if checkpoints:
        manifest = storage.read_json(checkpoints[-1], ["recipe"])
        try:
            place = manifest["recipe"]["data"]["shards"]
        except (KeyError, TypeError) as error:
            raise SetError(f"{storage.url(checkpoints[-1])}: names no shards: give --trained-on SHARDS") from error
    try:
        folder = ShardFolder(place)
    except SetError:
        raise SetError(
            f"--trained-on {place}: neither a run of `make train` nor a folder of shards; if the run's shards were moved, "
            "name the folder where they are now"
        ) from None
    ids, sha256, hashes, unreadable = [], set(), [], 0
    for sample, (record, jpeg) in folder.each("json", "jpg"):
        told = read_record(record) if record else {}
        ids.append(sample)
        sha256 |= {sha256_of_bytes(jpeg), told.get("source_sha256", "")}
        try:
            hashes.append(int(told.get("phash") or decode(jpeg).phash(), 16))
        except Undecodable:
            unreadable += 1
    if unreadable:
        say("references", f"{place}: {unreadable:,} pictures cannot be read, and are compared by id and bytes alone")
    return Trained(place, frozenset(ids), frozenset(sha256 - {""}), np.array(hashes, np.uint64))
